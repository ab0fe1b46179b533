"""Add up ternary tensors from their bit planes: what is zero costs nothing.

Only the set bits are visited, expert after expert, so that a sum takes time by the values that are
not zero. Machine code (`kernels/cpu/mask_sums.py`) adds in the same order, with equal bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from compress import loops
from compress.dtypes import Array
from compress.trit_rows import TritRows, pack_rows, unpack_rows


def add_scaled(total: Array, rows: TritRows, scale: float) -> None:
    """Add scale · trit to float64 [rows, columns]."""
    code = _code(rows)
    if code is not None:
        code.add_scaled(rows.nonzero, rows.negative, float(scale), total)
        return
    total += scale * unpack_rows(rows)


def add_agreeing(
    total: Array, counted: Array, rows: TritRows, minus: Array, scales: tuple[float, float]
) -> None:
    """Add the trits whose sign is the elected one.

    Args:
        total: float64 [rows, columns], to which scale · trit is added.
        counted: float64 [rows, columns], to which what such a trit counts is added.
        rows: the trits.
        minus: uint64 [rows, words], where − is elected; elsewhere + is.
        scales: what +1 stands for, and what a trit counts.
    """
    scale, count = float(scales[0]), float(scales[1])
    code = _code(rows)
    if code is not None:
        code.add_agreeing(rows.nonzero, rows.negative, minus, scale, count, total, counted)
        return
    agree = TritRows(rows.columns, rows.nonzero & ~(rows.negative ^ minus), rows.negative)
    trits = unpack_rows(TritRows(rows.columns, agree.nonzero, agree.nonzero & agree.negative))
    total += np.where(trits != 0, scale * trits, 0.0)
    counted += np.where(trits != 0, count, 0.0)


def majority(voters: Sequence[TritRows]) -> Array:
    """Elect the sign that more trits have; where as many have either, +.

    Counters of all 64 trits of a word are added at once, bit by bit.

    Args:
        voters: at least one, of equal rows and columns.

    Returns:
        uint64 [rows, words], where − is elected.
    """
    nonzero, negative = (
        np.stack([plane.reshape(-1) for plane in planes])
        for planes in ([v.nonzero for v in voters], [v.negative for v in voters])
    )
    minus = np.empty(nonzero.shape[1], np.uint64)
    code = _code(voters[0])
    if code is not None:
        code.majority(nonzero, negative, len(voters).bit_length(), minus)
    else:
        _majority(nonzero, negative, minus)
    return minus.reshape(voters[0].nonzero.shape)


def _majority(nonzero: Array, negative: Array, out: Array) -> None:
    """Count as the name says: uint64 [voters, words] into uint64 [words]."""
    columns = 64 * nonzero.shape[1]
    balance = np.zeros((1, columns), np.int64)
    for number in range(len(nonzero)):
        part = slice(number, number + 1)
        balance += unpack_rows(TritRows(columns, nonzero[part], negative[part]))
    out[:] = pack_rows(np.minimum(np.sign(balance), 0).astype(np.int8)).negative[0]


def _code(rows: TritRows) -> ModuleType | None:
    return loops.machine_code("mask_sums", symbols=rows.rows * rows.columns // 8)
