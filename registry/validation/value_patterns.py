"""Recognise zeros, NaN and infinities by bit pattern, a megabyte at a time and without temporaries.

In an IEEE format a value is not finite when its exponent is full, so when its pattern without the
sign reaches a limit. Read once as signed and once as unsigned integers, a block's two maxima tell
whether any positive and any negative value reaches it: two vectorised reductions and no copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Look:
    """Say what a block of values looks like.

    Attributes:
        all_zero: every value is zero, of either sign.
        first_bad: index of the first value that is not finite, or -1.
    """

    all_zero: bool
    first_bad: int = -1


@dataclass(frozen=True, slots=True)
class ValuePatterns:
    """Describe the bit patterns of a dtype.

    Attributes:
        bits: width of one value.
        limit: smallest pattern, sign aside, that is not finite; 0 where all are.
        minus_zero_is_nan: the sign alone means NaN (the FNUZ formats), not zero.
    """

    bits: int
    limit: int = 0
    minus_zero_is_nan: bool = False

    @property
    def width(self) -> int:
        """Return the bytes of one value."""
        return self.bits // 8

    def look(self, data: memoryview) -> Look:
        """Look at a block of whole values, at least one."""
        unsigned = np.frombuffer(data, dtype=f"<u{self.width}")
        highest = int(unsigned.max())
        if highest == 0:
            return Look(all_zero=True)
        if not self.limit and not self.minus_zero_is_nan:
            return Look(all_zero=False)
        sign = 1 << (self.bits - 1)
        signed = unsigned.view(f"<i{self.width}")
        if self.minus_zero_is_nan:
            if highest < sign or int(signed.min()) != -sign:
                return Look(all_zero=False)
            return Look(all_zero=False, first_bad=int(np.argmax(unsigned == sign)))
        top = int(signed.max())
        if top < self.limit and highest < sign + self.limit:
            return Look(all_zero=top <= 0 and highest == sign)
        return Look(all_zero=False, first_bad=self._first_above(unsigned, sign - 1))

    def _first_above(self, unsigned: npt.NDArray[np.unsignedinteger], mask: int) -> int:
        magnitudes = np.bitwise_and(unsigned, unsigned.dtype.type(mask))
        return int(np.argmax(magnitudes >= self.limit))


PATTERNS: Mapping[str, ValuePatterns] = MappingProxyType(
    {
        "F64": ValuePatterns(64, 0x7FF0_0000_0000_0000),
        "F32": ValuePatterns(32, 0x7F80_0000),
        "C64": ValuePatterns(32, 0x7F80_0000),  # two values to an element
        "F16": ValuePatterns(16, 0x7C00),
        "BF16": ValuePatterns(16, 0x7F80),
        "F8_E5M2": ValuePatterns(8, 0x7C),
        "F8_E4M3": ValuePatterns(8, 0x7F),
        "F8_E5M2FNUZ": ValuePatterns(8, minus_zero_is_nan=True),
        "F8_E4M3FNUZ": ValuePatterns(8, minus_zero_is_nan=True),
    }
)
"""The floating dtypes that can hold a NaN; all others are looked at as plain bytes."""

PLAIN_BYTES = ValuePatterns(8)
