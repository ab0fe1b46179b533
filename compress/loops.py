"""Choose who runs loops over symbols: machine code where Numba is installed, or NumPy.

Both give the same integers and the same bits of floats. Loading machine code takes a third of a
second (and seconds the very first time, when it is compiled and kept for later). So NumPy takes the
first symbols of a process, until they are so many that loading would have paid.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

_MODULES = ("rans", "planes", "viterbi", "halves")
#: Symbols that NumPy takes about as long for as loading takes.
WORTH = 1 << 21


class _Choice:
    """Remember what was left to NumPy, and whether machine code may be used at all."""

    allowed = True
    loaded = False
    taken = 0


def machine_code(name: str, *, symbols: int) -> ModuleType | None:
    """Give the compiled twin of a module, or None where NumPy shall do it.

    Args:
        name: of the module in `compress/kernels/cpu`.
        symbols: how many the loop is about to take.
    """
    if not _Choice.allowed or not symbols or not _installed():
        return None
    if not _Choice.loaded:
        _Choice.taken += symbols
        if _Choice.taken < WORTH:
            return None
        load()
    return _module(name)


def load() -> None:
    """Load all machine code now, as who is about to run loops many times should."""
    if _Choice.allowed and _installed():
        for name in _MODULES:
            _module(name)
        _Choice.loaded = True


@contextmanager
def only_numpy() -> Iterator[None]:
    """Leave all loops to NumPy for a while, in this process; for comparisons."""
    before, _Choice.allowed = _Choice.allowed, False
    try:
        yield
    finally:
        _Choice.allowed = before


@cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f"compress.kernels.cpu.{name}")
