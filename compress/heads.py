"""Keep a head in 8 or 4 bits per value instead of exactly: most of a small expert is its head.

Values are cut into groups of 64 in row-major order, each with a scale of its own in float16; a
value becomes the nearest whole multiple of its scale, in −127…127 or −7…7. Of several scales, from
the one that just reaches the largest value downwards, a group takes the one of least squared error
(what clipping costs against what finer steps save). Levels and scales are then entropy-coded
(`compress.float_planes`). This is round-to-nearest with clipping, as in Banner et al., "Post
training 4-bit quantization" (2019, section 3), but by search and not by a model of the values.

`encode` gives a block that says its own size; every number is little-endian:

    u32 crc32 of the rest of this head · u8 bits · u64 values · u64 bytes of the whole block
    parts of `PART_VALUES` values, the last one shorter:
        u32 crc32 of the rest of the part · i16 exponent · u32 scale bytes · u32 level bytes ·
        scales · levels

A scale is its float16 times 2^exponent, so that tensors of any magnitude have precise scales.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress import float_planes
from compress.dtypes import Array
from compress.errors import NonFiniteError, OptionError, TernDamagedError

GROUP = 64
PART_VALUES = 1 << 20
BITS = (8, 4)
#: Shares of the largest value of a group that its scale may just reach.
_REACHES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
_HEAD = struct.Struct("<IBQQ")
HEAD_BYTES = _HEAD.size
_PART = struct.Struct("<IhII")


@dataclass(frozen=True, slots=True)
class QuantisedHead:
    """Hold a quantised tensor.

    Attributes:
        levels: int8, of the tensor's shape, within ±(2^(bits-1) - 1).
        scales: float16 [groups], for each group of 64 levels in row-major order.
        exponent: a scale counts 2^exponent times.
    """

    levels: Array
    scales: Array
    exponent: int


@dataclass(frozen=True, slots=True)
class HeadBlock:
    """Say what a block holds, read from its first bytes."""

    bits: int
    values: int
    size_bytes: int


def quantise(values: Array, bits: int) -> QuantisedHead:
    """Quantise float32 values of any shape to 8 or 4 bits.

    Raises:
        OptionError: other bits.
        NonFiniteError: a value is NaN or infinite.
    """
    if bits not in BITS:
        raise OptionError("out of range", field="bits", expected="8 or 4", actual=str(bits))
    if not np.isfinite(values).all():
        raise NonFiniteError("a head holds NaN or infinity", field="values")
    groups = np.zeros((-(-values.size // GROUP), GROUP), np.float32)
    groups.reshape(-1)[: values.size] = values.reshape(-1)
    top = _top(bits)
    largest = np.abs(groups).max(axis=1, initial=0).astype(np.float64) / top
    peak = float(largest.max(initial=0))
    exponent = math.frexp(peak)[1] if peak else 0
    levels, scales = np.zeros(groups.shape, np.int8), np.zeros(len(groups), np.float16)
    least = np.full(len(groups), np.inf)
    for reach in _REACHES:
        tried = np.ldexp(largest * reach, -exponent).astype(np.float16)
        found, error = _round(groups, _real_scales(tried, exponent), top)
        better = error < least
        levels[better], scales[better], least[better] = found[better], tried[better], error[better]
    return QuantisedHead(levels.reshape(-1)[: values.size].reshape(values.shape), scales, exponent)


def restore(head: QuantisedHead) -> Array:
    """Give float32 values of the shape of the levels: level times scale, rounded once."""
    groups = np.zeros((len(head.scales), GROUP), np.float32)
    groups.reshape(-1)[: head.levels.size] = head.levels.reshape(-1)
    with np.errstate(over="ignore"):
        groups *= _real_scales(head.scales, head.exponent)[:, None]
    return groups.reshape(-1)[: head.levels.size].reshape(head.levels.shape)


def relative_error(values: Array, restored: Array) -> float:
    """Compute ‖values − restored‖ / ‖values‖ in float64; 0 for a tensor of zeros kept as such."""
    norm = float(np.linalg.norm(values.astype(np.float64)))
    gap = float(np.linalg.norm(values.astype(np.float64) - restored))
    return gap / norm if norm else math.inf if gap else 0.0


def encode(values: Array, bits: int) -> bytes:
    """Quantise and encode float32 values of any shape as one block.

    Raises:
        OptionError: other bits than 8 or 4.
        NonFiniteError: a value is NaN or infinite.
    """
    flat = values.reshape(-1)
    parts = [
        _encode_part(quantise(flat[at : at + PART_VALUES], bits), bits)
        for at in range(0, max(1, len(flat)), PART_VALUES)
    ]
    size = HEAD_BYTES + sum(map(len, parts))
    return b"".join([_seal(_HEAD.pack(0, bits, len(flat), size)), *parts])


def read_head(data: bytes) -> HeadBlock:
    """Read what a block says about itself from its first `HEAD_BYTES` bytes.

    Raises:
        TernDamagedError: cut off, changed, or no encoder writes this.
    """
    if len(data) < HEAD_BYTES:
        raise TernDamagedError("a head is cut off", field="head", expected=f"{HEAD_BYTES} bytes")
    crc, bits, values, size = _HEAD.unpack(data[:HEAD_BYTES])
    if zlib.crc32(data[4:HEAD_BYTES]) != crc:
        raise TernDamagedError("a checksum of a head is wrong", field="head")
    if bits not in BITS or size < HEAD_BYTES:
        raise TernDamagedError("a head claims what no encoder writes", field="head")
    return HeadBlock(bits, values, size)


def decode(data: bytes, shape: Sequence[int]) -> Array:
    """Decode one whole block.

    Args:
        data: what `encode` gave.
        shape: of the tensor; nothing larger is ever allocated.

    Returns:
        float32 of that shape.

    Raises:
        TernDamagedError: the block is not of this shape, damaged, or not what an encoder writes.
    """
    head = read_head(data)
    if len(data) != head.size_bytes or head.values != math.prod(shape):
        raise TernDamagedError(
            "a head has another size than it should",
            field="head",
            expected=f"{math.prod(shape)} values in {len(data)} bytes",
            actual=f"{head.values} values in {head.size_bytes} bytes",
        )
    values = np.empty(head.values, np.float32)
    for start, part in decode_parts(data):
        values[start : start + len(part)] = part
    return values.reshape(shape)


def decode_parts(data: bytes) -> Iterator[tuple[int, Array]]:
    """Decode one whole block in parts of `PART_VALUES` values: offset and float32 values.

    Raises:
        TernDamagedError: the block is damaged, or not what an encoder writes.
    """
    head = read_head(data)
    parts = list(_parts(data))
    if len(parts) != max(1, -(-head.values // PART_VALUES)):
        raise TernDamagedError("a head has another number of parts", field="head")
    for index, part in enumerate(parts):
        start = index * PART_VALUES
        count = min(PART_VALUES, head.values - start)
        values = restore(_decode_part(part, head.bits, count))
        if not np.isfinite(values).all():
            raise TernDamagedError("a head decodes to infinity", field="head")
        yield start, values


def _top(bits: int) -> int:
    return (1 << (bits - 1)) - 1


def _real_scales(scales: Array, exponent: int) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ldexp(scales.astype(np.float64), exponent).astype(np.float32)


def _round(groups: Array, scales: Array, top: int) -> tuple[Array, Array]:
    """Round float32 [groups, 64] to levels; give them and the squared error of every group."""
    inverse = np.divide(1, scales, out=np.zeros(len(scales)), where=scales > 0, dtype=np.float64)
    levels = np.clip(np.rint(groups * inverse[:, None]), -top, top).astype(np.int8)
    gap = groups - (levels * scales[:, None]).astype(np.float64)
    return levels, np.einsum("gv,gv->g", gap, gap)


def _seal(part: bytes) -> bytes:
    return zlib.crc32(part[4:]).to_bytes(4, "little") + part[4:]


def _encode_part(head: QuantisedHead, bits: int) -> bytes:
    symbols = (head.levels + np.int8(_top(bits))).view(np.uint8)
    scales = float_planes.encode(head.scales.astype("<f2").tobytes(), width=2)
    levels = float_planes.encode(symbols.tobytes(), width=1)
    return _seal(_PART.pack(0, head.exponent, len(scales), len(levels)) + scales + levels)


def _parts(data: bytes) -> Iterator[bytes]:
    """Cut a block into its parts and check their sums."""
    at = HEAD_BYTES
    while at < len(data):
        if len(data) < at + _PART.size:
            raise TernDamagedError("a part of a head is cut off", field="head")
        crc, _, scale_bytes, level_bytes = _PART.unpack_from(data, at)
        part = data[at : at + _PART.size + scale_bytes + level_bytes]
        if len(part) != _PART.size + scale_bytes + level_bytes or zlib.crc32(part[4:]) != crc:
            raise TernDamagedError("a checksum of a part of a head is wrong", field="head")
        yield part
        at += len(part)


def _decode_part(part: bytes, bits: int, count: int) -> QuantisedHead:
    _, exponent, scale_bytes, _ = _PART.unpack_from(part)
    middle, groups, top = _PART.size + scale_bytes, -(-count // GROUP), _top(bits)
    scales = np.frombuffer(
        float_planes.decode(part[_PART.size : middle], width=2, size=2 * groups), "<f2"
    )
    symbols = np.frombuffer(float_planes.decode(part[middle:], width=1, size=count), np.uint8)
    if not np.isfinite(_real_scales(scales, exponent)).all() or (scales < 0).any():
        raise TernDamagedError("a scale is not a positive number", field="head")
    if symbols.size and int(symbols.max()) > 2 * top:
        raise TernDamagedError("a level is out of its range", field="head")
    return QuantisedHead((symbols - np.uint8(top)).view(np.int8), scales, exponent)
