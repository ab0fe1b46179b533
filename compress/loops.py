"""Choose who runs loops over symbols: machine code where Numba is installed, or NumPy.

Both give the same integers and the same bits of floats. Loading machine code takes a third of a
second, and compiling it, once on a machine, ten. So NumPy takes the first symbols of a process,
until they are so many that machine code would have paid. `python -m compress.kernels.cpu`
compiles everything beforehand.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar

_MODULES = ("rans", "planes", "viterbi", "halves", "mask_products", "mask_sums")
#: Symbols that NumPy takes about as long for as loading takes, and as compiling takes.
WORTH_LOADING, WORTH_COMPILING = 1 << 21, 1 << 26


class _Choice:
    """Remember how many symbols came, what is loaded, and whether it may be used at all."""

    allowed = True
    taken = 0
    loaded: ClassVar[dict[str, ModuleType]] = {}


def machine_code(name: str, *, symbols: int) -> ModuleType | None:
    """Give the compiled twin of a module, or None where NumPy shall do it.

    Args:
        name: of the module in `compress/kernels/cpu`.
        symbols: how many the loop is about to take.
    """
    expect(symbols)
    return _Choice.loaded.get(name) if _Choice.allowed and symbols else None


def expect(symbols: int) -> None:
    """Say that so many symbols are about to come, which may be reason to load machine code."""
    _Choice.taken += symbols
    if not _Choice.loaded and _Choice.taken >= _worth():
        load()


def load() -> None:
    """Load all machine code now.

    Where Numba does not go with this NumPy, or finds no folder for what it compiled, NumPy goes on.
    """
    if _Choice.allowed and not _Choice.loaded and _installed():
        try:
            _Choice.loaded = {
                name: importlib.import_module(f"compress.kernels.cpu.{name}") for name in _MODULES
            }
        except (ImportError, RuntimeError):
            _Choice.allowed = False


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
def _worth() -> int:
    """Give the symbols from which machine code pays: fewer if it has been compiled before."""
    compiled = Path(__file__).parent / "kernels" / "cpu" / "__pycache__"
    return WORTH_LOADING if any(compiled.glob("planes.*.nbi")) else WORTH_COMPILING


def compile_all() -> None:
    """Compile all machine code that this machine has not compiled before."""
    load()
    for module in _Choice.loaded.values():
        module.compile_all()
