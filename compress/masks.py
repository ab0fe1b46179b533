"""Hold a ternary tensor as two bit planes, and compute with it without unpacking.

Bit i of word w stands for trit 32w+i; one plane says where a trit is +1, the other where it is −1.
Two bits a trit, and a product of two tensors is a count of bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.errors import OptionError

TRITS_PER_WORD = 32


@dataclass(frozen=True, slots=True)
class Masks:
    """Hold the two bit planes of a ternary tensor.

    Attributes:
        trits: how many there are; the bits beyond them are zero.
        positive: uint32 [⌈trits/32⌉], where a trit is +1.
        negative: uint32 [⌈trits/32⌉], where a trit is −1.
    """

    trits: int
    positive: Array
    negative: Array

    @property
    def nonzero(self) -> int:
        """Count the trits that are not zero."""
        return _count(self.positive) + _count(self.negative)


def word_count(trits: int) -> int:
    """Count the words of one plane."""
    return -(-trits // TRITS_PER_WORD)


def pack_masks(trits: Array) -> Masks:
    """Pack int8 [n] trits into two planes."""
    return Masks(len(trits), _pack(trits > 0), _pack(trits < 0))


def unpack_masks(masks: Masks) -> Array:
    """Unpack two planes into int8 [trits]."""
    positive, negative = (
        np.unpackbits(plane.astype("<u4").view(np.uint8), count=masks.trits, bitorder="little")
        for plane in (masks.positive, masks.negative)
    )
    trits: Array = positive.view(np.int8) - negative.view(np.int8)
    return trits


def dot(left: Masks, right: Masks) -> int:
    """Compute Σ leftᵢ·rightᵢ exactly: trits that agree minus trits that differ in sign.

    Raises:
        OptionError: the tensors have different sizes.
    """
    if left.trits != right.trits:
        raise OptionError(
            "ternary tensors of different sizes have no product",
            field="masks",
            expected=f"{left.trits} trits",
            actual=str(right.trits),
        )
    agree = left.positive & right.positive | left.negative & right.negative
    differ = left.positive & right.negative | left.negative & right.positive
    return _count(agree) - _count(differ)


def _pack(present: Array) -> Array:
    plane = np.zeros(4 * word_count(len(present)), np.uint8)
    packed = np.packbits(present, bitorder="little")
    plane[: len(packed)] = packed
    return plane.view("<u4")


def _count(plane: Array) -> int:
    return int(np.bitwise_count(plane).sum(dtype=np.int64))
