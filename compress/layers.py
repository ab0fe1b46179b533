"""Say how the layers of a file lie: a coarse adapter first, then what makes it finer.

The layers follow one another in one part of the file, which is its last. Layer n holds plane n of
every segment, coarsest planes first; the first layer also holds the sides of the segments. Since
the index knows the size and the digest of each, a file that was cut after a layer can be checked
and decoded as far as it goes.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

from compress.errors import TernDamagedError
from compress.names import ByteReader, ByteWriter

DIGEST_BYTES = 16
_NUMBERS = struct.Struct("<dHd")
_MAX_SEGMENTS = 1 << 16
MAX_LAYERS = 8


@dataclass(frozen=True, slots=True)
class Unit:
    """Say what the gains of components are told in.

    Attributes:
        size: what they are relative to.
        steps: into how many steps an octave of them is cut.
    """

    size: float
    steps: int


@dataclass(frozen=True, slots=True)
class Layers:
    """Describe the layers of one file.

    Attributes:
        unit: what the gains of components are told in.
        gain: what ΔW is multiplied with in all.
        modules: by segment, how many modules it has.
        sides: by segment, the bytes of its side.
        blocks: by layer and segment, the bytes of its block; 0 where it has none.
        digests: of every layer.
        parts: digest of every other part but the index, in the order of the file.
        errors: by layer, the relative error of ΔW that is left after it.
    """

    unit: Unit
    gain: float
    modules: tuple[int, ...]
    sides: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    digests: tuple[bytes, ...]
    parts: tuple[bytes, ...]
    errors: tuple[float, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Give the bytes of every layer."""
        return tuple(
            sum(row) + (0 if number else sum(self.sides)) for number, row in enumerate(self.blocks)
        )

    def start(self, layer: int) -> int:
        """Give the offset of a layer, or the end of the last."""
        return sum(self.sizes[:layer])


def digest(data: bytes) -> bytes:
    """Compute the digest that the index keeps of a part: half a sha256."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def write(out: ByteWriter, layers: Layers) -> None:
    """Append the description to an index."""
    out.data += _NUMBERS.pack(layers.unit.size, layers.unit.steps, layers.gain)
    out.number(len(layers.modules))
    out.numbers(layers.modules)
    out.numbers(layers.sides)
    out.number(len(layers.blocks))
    for row in layers.blocks:
        out.numbers(row)
    out.data += struct.pack(f"<{len(layers.errors)}f", *layers.errors)
    out.data += b"".join(layers.digests)
    out.number(len(layers.parts))
    out.data += b"".join(layers.parts)


def read(source: ByteReader) -> Layers:
    """Read a description from an index.

    Raises:
        TernDamagedError: it makes no sense.
    """
    size, steps, gain = _NUMBERS.unpack(source.fixed(_NUMBERS.size))
    segments = source.number()
    valid = 0 < size < math.inf and steps and 0 < gain < math.inf
    if segments > _MAX_SEGMENTS or not valid:
        raise TernDamagedError("the layers are not valid", field="index")
    modules = tuple(source.numbers(segments))
    sides = tuple(source.numbers(segments))
    count = source.number()
    if count > MAX_LAYERS:
        raise TernDamagedError("there are too many layers", field="index", actual=str(count))
    blocks = tuple(tuple(source.numbers(segments)) for _ in range(count))
    errors = struct.unpack(f"<{count}f", source.fixed(4 * count))
    digests = tuple(source.fixed(DIGEST_BYTES) for _ in range(count))
    parts = source.number()
    if parts > MAX_LAYERS:
        raise TernDamagedError("there are too many parts", field="index", actual=str(parts))
    found = tuple(source.fixed(DIGEST_BYTES) for _ in range(parts))
    if not all(error >= 0 for error in errors):
        raise TernDamagedError("an error is not valid", field="index")
    return Layers(Unit(size, steps), gain, modules, sides, blocks, digests, found, errors)
