"""Round float32 to float16, which NumPy does one by one in software."""

from __future__ import annotations

import numpy as np
from numba import njit

from compress.dtypes import Array

_SIGN = np.uint32(0x8000_0000)
#: As float32 bits: 2^-14, the least normal float16; 2^16, which is beyond; and 1/2, whose last bit
#: is worth as much as that of the least float16, so that adding it rounds to those.
_NORMAL, _BEYOND, _HALF = np.uint32(0x3880_0000), np.uint32(0x4780_0000), np.float32(0.5)
_HALF_BITS = np.uint32(0x3F00_0000)
#: 15 − 127 in the place of the exponent, and half of what is cut off, less one.
_SHIFTED = np.uint32((((15 - 127) << 23) + 0x0FFF) & 0xFFFF_FFFF)
_INFINITY = np.uint32(0x7C00)
_1, _13, _16 = np.uint32(1), np.uint32(13), np.uint32(16)


@njit(cache=True, nogil=True)
def narrow(values: Array, out: Array) -> None:
    """Round to the nearest float16, to even between two; what is too large becomes infinite.

    Args:
        values: float32 [n], no NaN.
        out: uint16 [n], filled with the bits of float16.
    """
    bits = values.view(np.uint32)
    for at in range(bits.size):
        sign = np.uint32(bits[at] & _SIGN)
        size = np.uint32(bits[at] ^ sign)
        normal = np.uint32(np.uint32(size + _SHIFTED + (np.uint32(size >> _13) & _1)) >> _13)
        lifted = np.float32(np.float32(abs(values[at])) + _HALF)
        small = np.uint32(lifted.view(np.uint32) - _HALF_BITS)
        rounded = small if size < _NORMAL else normal
        rounded = _INFINITY if size >= _BEYOND else rounded
        out[at] = rounded | np.uint32(sign >> _16)


def compile_all() -> None:
    """Compile everything here for the types that it is used with."""
    narrow(np.ones(1, np.float32), np.zeros(1, np.uint16))
