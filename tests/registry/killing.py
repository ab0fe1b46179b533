"""Run work in a child process and kill -9 it at a chosen step, or let it run out of disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash_runner import Killer, _watch_fsync


def in_child(work: Callable[[], None]) -> int:
    """Run work in a forked process; return 0 if it ended well, 1 if not, -9 if it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:  # noqa: BLE001 - the child may only leave by _exit
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def killed_at(step: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Kill work at its n-th durable step; return whether it was, else it had fewer and ended well.

    `work` is given a function that counts one more step.
    """

    def armed() -> None:
        killer = Killer(step, None)
        _watch_fsync(killer)
        sys.addaudithook(killer.audit)
        work(killer.step)

    status = in_child(armed)
    assert status in {0, -signal.SIGKILL}, f"the child failed at step {step}: {status}"
    return status != 0


def with_short_files(limit_bytes: int, work: Callable[[], None]) -> int:
    """Run work in a child whose files cannot be longer than a limit."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        work()

    return in_child(limited)


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a small filesystem, or skip; give a function that changes its size."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small filesystem: run as root")

    def resize(new_size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={new_size}", str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
