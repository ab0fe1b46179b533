"""Keep floats exactly, in fewer bytes than general compressors: code their bytes plane by plane.

A trained weight is an exponent, which is far from uniform, and a sign and a mantissa, which are
nearly noise. Every element is rotated left by one bit, so that its first byte is the exponent (for
float16 the exponent and three bits more) and its last bit the sign. Then all first bytes are coded
together, all second bytes, and so on. A plane is coded in the cheapest of three ways:

- raw, as noise deserves;
- by chunk: runs of elements fall into classes, because the tensors of an adapter have different
  scales;
- by the byte above in the same element: a mantissa under a zero, or under the largest exponent of a
  bounded distribution, is not noise.

No type needs to be told: widened float16 and bfloat16 show as planes in which little can come.
For every plane, first bytes first:

    u8 way · if raw: u8 [elements]
    else: u8 spread << 4 | classes · u16 lanes · u32 words · u16 model bytes · model ·
          u32 states [lanes] · u16 words [words]

`compress.plane_models` says what a model is. Every number is little-endian.
"""

from __future__ import annotations

import struct

import numpy as np

from compress import plane_models, rans
from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.plane_models import Way

_HEAD = struct.Struct("<BBHIH")
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
#: A lane costs about 3 bytes. Short planes take fewer lanes than trits do, middling ones more: few
#: lanes are slow.
_PAYLOAD_PER_LANE, _MIDDLING_LANES = 128, 1024


def encode(data: bytes, *, width: int) -> bytes:
    """Encode whole elements of 1, 2, 4 or 8 bytes."""
    above: Array | None = None
    coded = []
    for plane in _split(data, width):
        coded.append(_encode_plane(plane, above))
        above = plane
    return b"".join(coded)


def decode(data: bytes, *, width: int, size: int) -> bytes:
    """Undo `encode`.

    Args:
        data: what `encode` gave.
        width: bytes of one element: 1, 2, 4 or 8.
        size: bytes of all elements.

    Raises:
        TernDamagedError: no encoder writes this.
    """
    above: Array | None = None
    planes, at = [], 0
    for _ in range(width):
        above, at = _decode_plane(data, at, above, count=size // width)
        planes.append(above)
    if at != len(data) or size % width:
        raise TernDamagedError("planes have another size than they say", field="exact")
    return _join(planes, width)


def _split(data: bytes, width: int) -> list[Array]:
    values = np.frombuffer(data, _UNSIGNED[width])
    if width == 1:
        return [values]
    one, rest = values.dtype.type(1), values.dtype.type(8 * width - 1)
    rotated = (values << one | values >> rest).view(np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(rotated[:, place]) for place in reversed(range(width))]


def _join(planes: list[Array], width: int) -> bytes:
    if width == 1:
        return planes[0].tobytes()
    rotated = np.empty((len(planes[0]), width), np.uint8)
    for place, plane in zip(reversed(range(width)), planes, strict=True):
        rotated[:, place] = plane
    values = rotated.reshape(-1).view(_UNSIGNED[width])
    one, rest = values.dtype.type(1), values.dtype.type(8 * width - 1)
    restored: Array = values >> one | values << rest
    return restored.tobytes()


def _encode_plane(plane: Array, above: Array | None) -> bytes:
    raw = bytes([Way.RAW]) + plane.tobytes()
    found = plane_models.fit(plane, above)
    if found is None:
        return raw
    model, bits = found
    lanes = 0 if model.tables.certain.all() else _choose_lanes(bits / 8, len(plane))
    contexts = model.contexts(len(plane), above)
    states, words = rans.encode(plane, contexts, model.tables, lanes=lanes)
    kind = model.spread << 4 | model.tables.contexts
    head = _HEAD.pack(model.way, kind, lanes, len(words), len(model.encoded))
    coded = head + model.encoded + states.astype("<u4").tobytes() + words.tobytes()
    return min(raw, coded, key=len)


def _choose_lanes(payload_bytes: float, count: int) -> int:
    few = min(1 + int(payload_bytes) // _PAYLOAD_PER_LANE, _MIDDLING_LANES, count)
    return max(few, rans.choose_lanes(payload_bytes, count) if few == _MIDDLING_LANES else 0)


def _decode_plane(data: bytes, at: int, above: Array | None, *, count: int) -> tuple[Array, int]:
    """Decode the plane at a place; give uint8 [count] and the place of the next."""
    if data[at : at + 1] == bytes([Way.RAW]):
        start = at + 1
        _expect(data, start + count)
        return np.frombuffer(data, np.uint8, count, start), start + count
    _expect(data, at + _HEAD.size)
    way, kind, lanes, words, model_bytes = _HEAD.unpack_from(data, at)
    if lanes > rans.MAX_LANES or (way == Way.BY_ABOVE and above is None):
        raise TernDamagedError("a plane claims what no encoder writes", field="exact")
    start = at + _HEAD.size + model_bytes
    stop = start + 4 * lanes + 2 * words
    _expect(data, stop)
    encoded = data[at + _HEAD.size : start]
    model = plane_models.read(encoded, way=way, classes=kind & 15, spread=kind >> 4, count=count)
    plane = rans.decode(
        np.frombuffer(data, "<u4", lanes, start),
        np.frombuffer(data, "<u2", words, start + 4 * lanes),
        model.contexts(count, above),
        model.tables,
        count=count,
    )
    return plane, stop


def _expect(data: bytes, stop: int) -> None:
    if stop > len(data):
        raise TernDamagedError("a plane is cut off", field="exact")
