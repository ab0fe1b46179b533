"""Let a process end with the one that started it, even if that one was killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the parent dies; exit if it did already.

    Elsewhere than on Linux nothing asks: there `orphaned` tells in time.

    Args:
        parent: process id of who started this process.
        number: the signal.

    Raises:
        SystemExit: the parent is gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if orphaned(parent):
        sys.exit(1)


def orphaned(parent: int) -> bool:
    """Tell whether this process was left behind."""
    return os.getppid() != parent
