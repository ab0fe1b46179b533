"""Add up ternary tensors from their bit planes: what is zero costs nothing.

Only the set bits are visited, expert after expert, so that a sum takes time by the values that are
not zero. Machine code (`kernels/cpu/mask_sums.py`) adds in the same order, with equal bits.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from compress import loops
from compress.dtypes import Array
from compress.trit_rows import TritRows, unpack_rows


def add_scaled(total: Array, rows: TritRows, scale: float) -> None:
    """Add scale · trit to float64 [rows, columns]."""
    code = _code(rows)
    if code is not None:
        code.add_scaled(rows.nonzero, rows.negative, float(scale), total)
        return
    total += scale * unpack_rows(rows)


def add_agreeing(
    total: Array, counted: Array, rows: TritRows, wanted: Array, scales: tuple[float, float]
) -> None:
    """Add the trits whose sign is the one that is wanted.

    Args:
        total: float64 [rows, columns], to which scale · trit is added.
        counted: float64 [rows, columns], to which what such a trit counts is added.
        rows: the trits.
        wanted: int8 [rows, columns], +1 or −1: the sign that agrees.
        scales: what +1 stands for, and what a trit counts.
    """
    scale, count = float(scales[0]), float(scales[1])
    code = _code(rows)
    if code is not None:
        code.add_agreeing(rows.nonzero, rows.negative, wanted, scale, count, total, counted)
        return
    trits = unpack_rows(rows)
    agree = trits == wanted
    total += np.where(agree, scale * trits, 0.0)
    counted += np.where(agree, count, 0.0)


def _code(rows: TritRows) -> ModuleType | None:
    return loops.machine_code("mask_sums", symbols=rows.rows * rows.columns // 8)
