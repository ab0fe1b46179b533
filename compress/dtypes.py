"""Know the element types of safetensors files and how NumPy sees them.

Only the types in `WEIGHT_DTYPES` can hold a task vector; tensors of every other type are kept
exactly.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from compress import loops

Array = NDArray[Any]

#: Bits of one element, for every type that the format knows.
DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

#: The order is part of the .tern format: a tensor's type is stored as its position here.
DTYPE_CODES: tuple[str, ...] = tuple(DTYPE_BITS)

#: Types that can be compressed lossily. All are sign-magnitude, so −v is v with the top bit set.
WEIGHT_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}

_BITS_VIEW: dict[int, type[np.unsignedinteger[Any]]] = {
    1: np.uint8,
    2: np.uint16,
    4: np.uint32,
    8: np.uint64,
}


def widen(values: Array) -> Array:
    """Give values as float32, or float64 where that is their type. Always exact."""
    return values if values.dtype == np.float64 else values.astype(np.float32, copy=False)


def narrow(values: Array, dtype: str) -> Array:
    """Round float32 values to a storage type, a key of `WEIGHT_DTYPES`; none of them is NaN."""
    code = loops.machine_code("halves", symbols=len(values)) if dtype == "F16" else None
    if code is None:
        return values.astype(WEIGHT_DTYPES[dtype])
    bits = np.empty(len(values), np.uint16)
    code.narrow(values, bits)
    return bits.view(np.float16)


def bit_view(values: Array) -> Array:
    """Give the same bytes as unsigned integers of the same width."""
    return values.view(_BITS_VIEW[values.dtype.itemsize])


def cast(value: float, dtype: str) -> Array:
    """Round one number to a storage type.

    Args:
        value: the number, in float64.
        dtype: a key of `WEIGHT_DTYPES`.

    Returns:
        One-element array of the storage type.
    """
    with np.errstate(over="ignore"):
        return np.array([value], np.float64).astype(WEIGHT_DTYPES[dtype])
