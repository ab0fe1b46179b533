"""Turn packed symbols into the values that they stand for: ±scale or zero, by bits alone.

The reference is `compress/restore.py` for tensors that start at zero. A segment's scale is rounded
to the storage type once, on the host; the kernel only places its pattern and its sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from compress import restore as reference
from compress.container import Stored
from compress.dtypes import bit_view, cast
from compress.errors import OptionError
from compress.kernels.segments import Spans
from compress.kernels.tensors import TORCH_DTYPES, integers_on_device

_BLOCK = 256
#: A thread turns a row of eight symbols, 40 trits, into whole 16-byte stores.
_ROW_TRITS = 40
_TRITS = np.array([-1, 0, 1], np.int8)
STORAGE: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


def restore(
    symbols: torch.Tensor, spans: Spans, *, scales: Sequence[float], dtype: str
) -> list[torch.Tensor]:
    """Compute scale · trit for every segment.

    Args:
        symbols: uint8, as `decode_symbols` gives them.
        spans: where each segment lies.
        scales: what +1 stands for in each segment.
        dtype: F32, BF16 or F16.

    Returns:
        For every segment its values, [trits] of the storage type on the symbols' device, views of
        one buffer; zero trits give +0.

    Raises:
        OptionError: the type has no kernel, or there is not one scale per segment.
    """
    if dtype not in STORAGE:
        raise OptionError(
            "there is no kernel for this type",
            field="dtype",
            expected=", ".join(STORAGE),
            actual=dtype,
            hint="use the CPU",
        )
    if len(scales) != len(spans.places):
        raise OptionError(
            "there is not one scale for every segment",
            field="scales",
            expected=str(len(spans.places)),
            actual=str(len(scales)),
        )
    values = torch.empty(spans.size, dtype=STORAGE[dtype], device=symbols.device)
    if spans.size:
        rows = triton.cdiv(spans.longest, _ROW_TRITS)
        patterns = np.concatenate([bit_view(cast(scale, dtype)) for scale in scales])
        _expand[(triton.cdiv(rows, _BLOCK), len(spans.places))](
            symbols.view(torch.int64),
            spans.table,
            integers_on_device(patterns, str(symbols.device)),
            values.view(torch.int32),
            size_bytes=values.element_size(),
            block=_BLOCK,
        )
    return [values[place : place + trits] for place, trits in spans.places]


def restore_tensor(trits: torch.Tensor, tensor: Stored, scale: float) -> torch.Tensor:
    """Compute initial + scale · trit in a tensor's own type; see `compress.restore`.

    Args:
        trits: bfloat16 [n] of −1, 0 and +1.
        tensor: what they belong to; its initial value is not the base.
        scale: what +1 stands for.
    """
    device = str(trits.device)
    dtype = tensor.info.dtype
    # The reference decides what each of three trits stands for; a device only looks it up.
    three = integers_on_device(bit_view(reference.restore(_TRITS, tensor, scale)), device)
    found = three[trits.to(torch.int32) + 1]
    return found.view(TORCH_DTYPES[dtype])


@triton.jit
def _expand(
    symbols: tl.tensor,
    spans: tl.tensor,
    patterns: tl.tensor,
    values: tl.tensor,
    size_bytes: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Place ±scale or +0; one program processes `block` rows of eight symbols of one segment.

    Args:
        symbols: int64 [all symbols / 8], eight symbols in each.
        spans: int64 [segments, 3]: first symbol, place of the first trit, trits.
        patterns: int16 or int32 [segments], the bits of each segment's scale.
        values: int32 [all places · size_bytes / 4], the patterns of the values.
        size_bytes: bytes of a value, 2 or 4.
        block: rows to a program.
    """
    per_store: tl.constexpr = 16 // size_bytes
    stores: tl.constexpr = 40 // per_store
    span = spans + tl.program_id(1) * 3
    count = tl.load(span + 2).to(tl.int32)
    # Places up to the next multiple of 32 belong to this segment; what is put there is never seen.
    room = tl.cdiv(count, 32) * 32
    if tl.program_id(0) * block * 40 >= room:
        return
    pattern = tl.load(patterns + tl.program_id(1)).to(tl.int32)
    if size_bytes == 2:
        pattern = pattern & 0xFFFF
    # Where the scale has underflown to zero, −1 gives +0 as well.
    sign = tl.where(pattern == 0, 0, -2147483648 if size_bytes == 4 else 0x8000)
    row = tl.program_id(0) * block + tl.arange(0, block)
    packed = tl.load(symbols + tl.load(span) // 8 + row, mask=row * 40 < room, other=0)
    first = tl.multiple_of(tl.load(span + 1) * size_bytes // 4, 16)
    quad = tl.arange(0, 4)
    for store in tl.static_range(stores):
        w0 = _word(packed, pattern, sign, index=4 * store, size_bytes=size_bytes)
        w1 = _word(packed, pattern, sign, index=4 * store + 1, size_bytes=size_bytes)
        w2 = _word(packed, pattern, sign, index=4 * store + 2, size_bytes=size_bytes)
        w3 = _word(packed, pattern, sign, index=4 * store + 3, size_bytes=size_bytes)
        words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (block, 4))
        at = (row * (4 * stores) + 4 * store)[:, None] + quad[None, :]
        inside = (row * 40 + store * per_store < room)[:, None]
        tl.store(values + first + at, words, mask=inside)


@triton.jit
def _word(
    packed: tl.tensor,
    pattern: tl.tensor,
    sign: tl.tensor,
    index: tl.constexpr,
    size_bytes: tl.constexpr,
) -> tl.tensor:
    """Give the 32-bit word at an index of a row: one float32, or two 16-bit values."""
    if size_bytes == 4:
        word = _value(packed, pattern, sign, index)
    else:
        word = _value(packed, pattern, sign, 2 * index)
        word |= _value(packed, pattern, sign, 2 * index + 1) << 16
    return word


@triton.jit
def _value(
    packed: tl.tensor, pattern: tl.tensor, sign: tl.tensor, index: tl.constexpr
) -> tl.tensor:
    """Give the pattern of the value at an index, 0 to 39, of a row of eight symbols."""
    symbol = (packed >> (8 * (index // 5))).to(tl.int32) & 0xFF
    trit = _digit(symbol, index % 5) - 1
    return ((trit & 1) * pattern) ^ (trit & sign)


@triton.jit
def _digit(symbol: tl.tensor, place: tl.constexpr) -> tl.tensor:
    """Give the digit, 0 to 2, at a place, 0 to 4, of symbols below 243, without a division."""
    for _ in tl.static_range(place):
        symbol = (symbol * 171) >> 9
    return symbol - 3 * ((symbol * 171) >> 9)
