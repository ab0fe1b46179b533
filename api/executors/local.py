"""Run each job in a process group of its own on this machine, with the GPUs that it asked for.

A crash takes down nobody else, and what a job held is free when its group is gone. If this process
is killed, the kernel kills what it started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from api.executors.contract import Ended, end_all
from registry.jobs.values import Lease

TAIL_LINES = 40
_LINE_BYTES = 4096
_DRAIN_S = 1.0

Environment = Callable[[Path, Sequence[str]], dict[str, str]]
"""Make the environment of a job from its folder and its GPUs."""


@dataclass(slots=True)
class _Running:
    """Be one attempt that runs."""

    process: subprocess.Popen[bytes]
    gpus: tuple[str, ...]
    folder: Path
    tail: _Tail
    kill_at: float | None = None


class LocalExecutor:
    """Be the executor of one machine; see `api.executors.contract`.

    Attributes:
        command: what runs an attempt; job, attempt and our process id are appended.
        environment: makes the environment of an attempt.
        folder: where each attempt gets a folder of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Environment,
        *,
        folder: Path,
        slots: int,
        gpus: Sequence[str] = (),
        grace_s: float = 5.0,
    ) -> None:
        self.command = tuple(command)
        self.environment = environment
        self.folder = folder
        self._slots = slots
        self._free = list(gpus)
        self._grace_s = grace_s
        self._running: dict[Lease, _Running] = {}

    def room(self) -> int | None:
        """Return how many GPUs are free, or None if every slot is taken."""
        return len(self._free) if len(self._running) < self._slots else None

    def start(self, lease: Lease, *, gpus: int) -> None:
        """Start a process for an attempt.

        Raises:
            OSError: it cannot be started; its GPUs are free again.
        """
        given, self._free = tuple(self._free[:gpus]), self._free[gpus:]
        folder = self.folder / f"{lease.job}-{lease.attempt}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
                [*self.command, lease.job, str(lease.attempt), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment(folder, given),
                start_new_session=True,
            )
        except OSError:
            self._release(given, folder)
            raise
        self._running[lease] = _Running(process, given, folder, _Tail(process.stdout))

    def stop(self, lease: Lease) -> None:
        """Ask an attempt to end; it is killed after the grace time."""
        running = self._running.get(lease)
        if running is not None and running.kill_at is None:
            running.kill_at = time.monotonic() + self._grace_s
            _signal_group(running.process, signal.SIGTERM)

    def ended(self) -> list[Ended]:
        """Return what ended, and kill what was asked to end and did not."""
        found = []
        for lease, running in list(self._running.items()):
            if running.kill_at is not None and time.monotonic() >= running.kill_at:
                _signal_group(running.process, signal.SIGKILL)
            if _is_over(running.process):
                found.append(self._bury(lease, running))
        return found

    def close(self) -> list[Ended]:
        """Ask everything to end, kill what does not, and return all of it."""
        return end_all(self, self._running, poll_s=0.02)

    def _bury(self, lease: Lease, running: _Running) -> Ended:
        _signal_group(running.process, signal.SIGKILL)  # whoever the leader left behind
        running.process.wait()
        tail = running.tail.drained()
        self._release(running.gpus, running.folder)
        del self._running[lease]
        return Ended(lease, _how(running.process.returncode), tail)

    def _release(self, gpus: Sequence[str], folder: Path) -> None:
        self._free = sorted([*self._free, *gpus])
        shutil.rmtree(folder, ignore_errors=True)


class _Tail:
    """Keep the last lines of a pipe, so that its writer never waits."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread = threading.Thread(target=self._read, daemon=True, name="job-output")
        self._thread.start()

    def _read(self) -> None:
        if self._pipe is None:
            return
        with self._pipe:
            while line := self._pipe.readline(_LINE_BYTES):
                self._lines.append(line.decode(errors="replace").rstrip("\n"))

    def drained(self) -> tuple[str, ...]:
        """Return the last lines once the writers are gone."""
        self._thread.join(_DRAIN_S)
        return tuple(self._lines)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a job's whole group, whose number is that of its leader."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a job's leader ended; its number, and its group's, stay taken until we wait."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None


def _how(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def job_command() -> tuple[str, ...]:
    """Return the program that runs one attempt."""
    return (sys.executable, "-m", "api.jobs.run")
