"""Turn levels into the factors that they describe: A and B, or vectors, in their storage types.

The reference is `rate_distortion.decoder.decode_segment`. A row of A is a vector of the levels, and
a column of B is; so rows are copied along, and columns are turned through a tile. Every value is
multiplied first with the scale of its class, then with the gain of its component, both float32 and
rounded each time, as the reference does; components that are not described give zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from compress.container import Stored
from compress.errors import TernDamagedError
from compress.kernels.factor_plans import WIDE, FactorPlan, plan_factors
from compress.kernels.factor_tables import COLUMN_BLOCK, ROW_BLOCK, Launch
from compress.kernels.plane_batches import Place
from compress.kernels.restore import STORAGE
from compress.kernels.tensors import KINDS, TORCH_DTYPES, integers_on_device
from compress.rate_distortion.decoder import Coded, stored

_COLUMNS_PER_WARP = 8


@dataclass(frozen=True, slots=True)
class _Part:
    """Hold what is written to the tensors of one storage type, ready on a device.

    Attributes:
        dtype: the type that kernels write.
        size: values in the buffer of all tensors.
        zeroed: whether the buffer must hold zeros before.
        tensors: number of every tensor in the order of all, where it begins, and what it is.
        sources: int64 [records, 2], as `_write_rows` takes them.
        factors: float32 [records, 3].
        launches: programs and their tables, int64 [programs, 5].
    """

    dtype: torch.dtype
    size: int
    zeroed: bool
    tensors: Sequence[tuple[int, int, Stored]]
    sources: torch.Tensor
    factors: torch.Tensor
    launches: Sequence[tuple[Launch, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class FactorBatch:
    """Hold on a device where the vectors of all segments go, by storage type."""

    parts: tuple[_Part, ...]


def upload(segments: Sequence[Coded], places: Sequence[Place], device: str) -> FactorBatch:
    """Lay out the tensors of segments and bring what a kernel needs of them to a device.

    Args:
        segments: what is decoded.
        places: where the levels of every segment lie.
        device: where.
    """
    return FactorBatch(
        tuple(
            _upload(plan, STORAGE[dtype], device)
            for dtype, plan in plan_factors(segments, places).items()
        )
    )


def _upload(plan: FactorPlan, dtype: torch.dtype, device: str) -> _Part:
    sources, factors = plan.records()
    return _Part(
        dtype=dtype,
        size=plan.size,
        zeroed=plan.zeroed,
        tensors=plan.tensors,
        sources=integers_on_device(sources.reshape(-1), device),
        factors=integers_on_device(factors.reshape(-1), device).view(torch.float32),
        launches=[
            (launch, integers_on_device(launch.table.reshape(-1), device))
            for launch in plan.launches(sources)
            if len(launch.table)
        ],
    )


def write_factors(levels: torch.Tensor, batch: FactorBatch) -> list[torch.Tensor]:
    """Give the tensors of all segments, flat, in the order of `Coded.tensors`.

    Args:
        levels: int16 [n], as `decode_planes` gives them.
        batch: where they go.

    Raises:
        TernDamagedError: a value does not fit its type.
    """
    buffers = [
        (torch.zeros if part.zeroed else torch.empty)(
            part.size, dtype=part.dtype, device=levels.device
        )
        for part in batch.parts
    ]
    faults = [
        _launch(levels, part, values, launch)
        for part, values in zip(batch.parts, buffers, strict=True)
        for launch in part.launches
    ]
    if faults and bool(torch.stack(faults).any()):
        raise TernDamagedError("a value does not fit its type", field="layers")
    found: dict[int, torch.Tensor] = {}
    for part, values in zip(batch.parts, buffers, strict=True):
        for number, at, tensor in part.tensors:
            found[number] = _own(values[at : at + tensor.info.size], tensor)
    return [found[number] for number in sorted(found)]


def _own(values: torch.Tensor, tensor: Stored) -> torch.Tensor:
    """Give values in a tensor's own type where that has no kernel."""
    dtype = tensor.info.dtype
    if dtype in STORAGE:
        return values
    rounded = stored(values.cpu().numpy(), tensor).view(np.uint8)
    return integers_on_device(rounded, str(values.device)).view(TORCH_DTYPES[dtype])


def _launch(
    levels: torch.Tensor, part: _Part, values: torch.Tensor, given: tuple[Launch, torch.Tensor]
) -> torch.Tensor:
    """Start all programs of a launch; give whether one found a value that does not fit: bool []."""
    launch, table = given
    programs = len(launch.table)
    kind = KINDS[values.dtype]
    faults = torch.empty(programs, dtype=torch.int32, device=levels.device)
    pointers = (levels, part.sources, part.factors, table, values.view(kind.bits), faults)
    own = {"kind": kind.code, "magnitude": kind.magnitude, "infinity": kind.infinity}
    # A product and a sum in one instruction would be rounded once, not twice as they should be.
    own |= {"multiple": WIDE if launch.wide else 1, "enable_fp_fusion": False}
    if not launch.width:
        _write_rows[(programs,)](*pointers, block=ROW_BLOCK, **own)
    else:
        own |= {"width": launch.width, "whole": launch.whole}
        warps = max(1, launch.width // _COLUMNS_PER_WARP)
        _write_columns[(programs,)](*pointers, block=COLUMN_BLOCK, num_warps=warps, **own)
    return faults.any()


@triton.jit
def _rounded(value: tl.tensor, kind: tl.constexpr) -> tl.tensor:
    """Round float32 to the nearest value of a type, ties to even: its pattern, as int32."""
    if kind == 0:
        pattern = value.to(tl.int32, bitcast=True)
    elif kind == 1:
        bits = value.to(tl.uint32, bitcast=True)
        pattern = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.int32)
    else:
        # From here on float16 is infinite, which not every converter gives without complaint.
        beyond = tl.abs(value) >= 65520.0
        half = tl.where(beyond, 0.0, value).to(tl.float16)
        pattern = tl.where(beyond, 0x7C00, half.to(tl.int16, bitcast=True).to(tl.int32))
    return pattern


@triton.jit
def _write_rows(
    levels: tl.tensor,
    sources: tl.tensor,
    factors: tl.tensor,
    table: tl.tensor,
    values: tl.tensor,
    faults: tl.tensor,
    kind: tl.constexpr,
    magnitude: tl.constexpr,
    infinity: tl.constexpr,
    multiple: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Scale vectors; one program processes `block` values of a row of A, or of a vector alone.

    Args:
        levels: int16 [all levels].
        sources: int64 [records, 2]: first level, or -1 for zeros, and length.
        factors: float32 [records, 3]: scale, gain, and what is added.
        table: int64 [programs, 5]: record, first value of the row, length, first value of the
            block within the row, whether something is added.
        values: int16 or int32 [all values], their patterns.
        faults: int32 [programs]: values that are not finite.
        kind: the code of the values' `FloatKind`.
        magnitude: the mask of all bits but the sign.
        infinity: the pattern of +∞.
        multiple: what all places are multiples of.
        block: values to a program.
    """
    program = tl.program_id(0)
    row = table + program.to(tl.int64) * 5
    record, length = tl.load(row), tl.load(row + 2).to(tl.int32)
    first = tl.load(row + 3).to(tl.int32)
    to = tl.multiple_of(tl.load(row + 1), multiple)
    start = tl.load(sources + 2 * record)
    known = start >= 0
    start = tl.multiple_of(tl.where(known, start, 0), multiple)
    own = factors + 3 * record
    at = tl.multiple_of(first, multiple) + tl.arange(0, block)
    length = tl.multiple_of(length, multiple)
    inside = at < length
    level = tl.load(levels + start + at, mask=inside & known, other=0)
    value = (level.to(tl.float32) * tl.load(own)) * tl.load(own + 1)
    # −0 plus 0 is +0, so nothing is added where the reference adds nothing.
    value = tl.where(tl.load(row + 4) != 0, value + tl.load(own + 2), value)
    pattern = _rounded(value, kind)
    tl.store(values + to + at, pattern.to(values.dtype.element_ty), mask=inside)
    beyond = inside & ((pattern & magnitude) >= infinity)
    tl.store(faults + program, tl.sum(beyond.to(tl.int32), axis=0))


@triton.jit
def _write_columns(
    levels: tl.tensor,
    sources: tl.tensor,
    factors: tl.tensor,
    table: tl.tensor,
    values: tl.tensor,
    faults: tl.tensor,
    kind: tl.constexpr,
    magnitude: tl.constexpr,
    infinity: tl.constexpr,
    multiple: tl.constexpr,
    width: tl.constexpr,
    whole: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Scale and turn vectors; one program processes `block` rows of up to `width` columns of B.

    Args:
        levels: int16 [all levels].
        sources: int64 [records, 2]: first level, or -1 for zeros, and length.
        factors: float32 [records, 3]: scale, gain, and what is added to rows.
        table: int64 [programs, 5]: record of the first column, its first value, columns, columns of
            the tensor, first row.
        values: int16 or int32 [all values], their patterns.
        faults: int32 [programs]: values that are not finite.
        kind: the code of the values' `FloatKind`.
        magnitude: the mask of all bits but the sign.
        infinity: the pattern of +∞.
        multiple: what all places are multiples of.
        width: columns to a program.
        whole: the tensor has as many columns.
        block: rows to a program.
    """
    program = tl.program_id(0)
    row = table + program.to(tl.int64) * 5
    record, columns = tl.load(row), tl.load(row + 2).to(tl.int32)
    to = tl.multiple_of(tl.load(row + 1), multiple)
    column = tl.arange(0, width)
    # A bound that is known leaves stores wide.
    there = column < (width if whole else columns)
    start = tl.load(sources + 2 * (record + column), mask=there, other=-1)
    known = start >= 0
    start = tl.multiple_of(tl.where(known, start, 0), multiple)
    own = factors + 3 * (record + column)
    scale = tl.load(own, mask=there, other=0.0)
    gain = tl.load(own + 1, mask=there, other=0.0)
    length = tl.load(sources + 2 * record + 1).to(tl.int32)
    length = tl.multiple_of(length, multiple)
    at = tl.load(row + 4).to(tl.int32)
    at = tl.multiple_of(at, multiple) + tl.arange(0, block)
    inside = at < length
    level = tl.load(
        levels + start[:, None] + at[None, :], mask=known[:, None] & inside[None, :], other=0
    )
    value = (level.to(tl.float32) * scale[:, None]) * gain[:, None]
    pattern = tl.trans(_rounded(value, kind))
    stride = width if whole else tl.load(row + 3)
    place = at[:, None].to(tl.int64) * stride + column[None, :]
    mask = inside[:, None] & there[None, :]
    tl.store(values + to + place, pattern.to(values.dtype.element_ty), mask=mask)
    beyond = mask & ((pattern & magnitude) >= infinity)
    tl.store(faults + program, tl.sum(tl.sum(beyond.to(tl.int32), axis=1), axis=0))
