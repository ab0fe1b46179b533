"""Run a module in this process and kill -9 it at its n-th durable step.

    python tests/crash_runner.py N MODULE [ARGUMENT…]

A durable step is a file opened for writing, a rename, link, removal or new folder, an fsync, or
the moment before and after a database commit. Nothing of the program is changed: audit hooks and
event listeners watch it from outside. With N = 0 nothing is killed and the steps are counted.
The name of each step goes to the file that CRASH_LOG names, one a line.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

STEPS = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})


class Killer:
    """Count steps and end the process, without a word, at the chosen one."""

    def __init__(self, at: int, log: Path | None) -> None:
        self.at = at
        self.log = log
        self.count = 0
        self.lock = threading.Lock()
        self.silent = threading.local()

    def step(self, name: str) -> None:
        """Count one step; die if it is the one."""
        if getattr(self.silent, "on", False):
            return
        with self.lock:
            self.count += 1
            self.silent.on = True
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{self.count} {name}\n")
            self.silent.on = False
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """Be the interpreter's audit hook."""
        if event in STEPS:
            self.step(f"{event} {arguments[0]}")
        elif event == "open" and _writes(arguments) and not str(arguments[0]).endswith(".pyc"):
            self.step(f"open {arguments[0]}")


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return (
        isinstance(flags, int)
        and bool(flags & (os.O_WRONLY | os.O_RDWR))
        and isinstance(arguments[0], str)
    )


def _watch_fsync(killer: Killer) -> None:
    def watched(real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            killer.step("before fsync")
            real(descriptor)
            killer.step("after fsync")

        return call

    os.fsync = watched(os.fsync)  # type: ignore[assignment]  # the harness watches from outside


def _watch_commits(killer: Killer) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    event.listen(Engine, "commit", lambda _: killer.step("before commit"))
    event.listen(Pool, "checkin", lambda *_: killer.step("after transaction"))


def main() -> None:
    """Arm the killer, then run the module as `python -m` would."""
    at, module = int(sys.argv[1]), sys.argv[2]
    log = os.environ.get("CRASH_LOG")
    killer = Killer(at, Path(log) if log else None)
    _watch_commits(killer)
    _watch_fsync(killer)
    sys.addaudithook(killer.audit)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
