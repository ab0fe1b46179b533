"""Make trits and segments for the tests of decoding, and lies about segments."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress import entropy

Array = NDArray[Any]
HEAD = struct.Struct("<IIHBBHI")
FIELDS = ("crc", "trits", "lanes", "bits", "model", "model_bytes", "words")
LAYOUTS = {
    "shared": partial(entropy.encode_segment, grouped=False),
    "grouped": partial(entropy.encode_segment, grouped=True),
}


def random_trits(size: int, density: float = 0.3, seed: int = 0) -> Array:
    """Make independent trits."""
    values = np.random.default_rng(seed).random(size)
    return np.where(values < density / 2, -1, np.where(values < density, 1, 0)).astype(np.int8)


def head_of(segment: bytes) -> dict[str, int]:
    """Read the fields of a head, by the format's own description."""
    return dict(zip(FIELDS, HEAD.unpack(segment[: HEAD.size]), strict=True))


def resealed(segment: bytes, **changes: int) -> bytes:
    """Change fields of a segment's head and make its checksum right again."""
    fields = head_of(segment) | changes
    body = HEAD.pack(*fields.values())[4:] + segment[HEAD.size :]
    return zlib.crc32(body).to_bytes(4, "little") + body


def with_bytes(segment: bytes, at: int, piece: bytes) -> bytes:
    """Put other bytes at a place and make the checksum right again."""
    return resealed(segment[:at] + piece + segment[at + len(piece) :])


def words_at(segment: bytes) -> int:
    """Find where the words begin."""
    return len(segment) - 2 * head_of(segment)["words"]


def states_at(segment: bytes) -> int:
    """Find where the states begin."""
    return HEAD.size + head_of(segment)["model_bytes"]
