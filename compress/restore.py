"""Turn trits back into the values that they stand for, bit for bit the same everywhere."""

from __future__ import annotations

import numpy as np

from compress.container import Stored
from compress.dtypes import WEIGHT_DTYPES, Array, bit_view, cast, widen
from compress.task_vector import Initial


def restore(trits: Array, tensor: Stored, scale: float, *, base: Array | None = None) -> Array:
    """Compute initial + scale · trit in the tensor's storage type.

    Args:
        trits: int8 [n].
        tensor: what they belong to.
        scale: what +1 stands for.
        base: the same elements of the base model, where the initial value is the base.

    Returns:
        [n] of the tensor's storage type. Zero trits of a zero initial value give +0.
    """
    dtype = tensor.info.dtype
    if tensor.initial is Initial.ZERO:
        return _signed(trits, cast(scale, dtype))
    if tensor.initial is Initial.ONE:
        values = np.concatenate([cast(1 - scale, dtype), cast(1.0, dtype), cast(1 + scale, dtype)])
        return values.take(trits.astype(np.intp) + 1)
    if base is None:
        raise ValueError("the base is needed to restore a residual")
    wide = np.dtype(np.float64 if dtype == "F64" else np.float32)
    with np.errstate(over="ignore"):
        change: Array = trits.astype(wide) * wide.type(scale)
        restored: Array = (widen(base).astype(wide) + change).astype(WEIGHT_DTYPES[dtype])
    return restored


def _signed(trits: Array, value: Array) -> Array:
    """Give ±value or +0 by bits: the value where the trit is odd, the sign where it is negative."""
    pattern = bit_view(value)[0]
    if not pattern:
        return np.zeros(len(trits), value.dtype)
    width = 8 * value.dtype.itemsize
    bits: Array = trits.astype(f"int{width}").view(pattern.dtype)
    sign = bits & pattern.dtype.type(1 << (width - 1))
    bits &= pattern.dtype.type(1)
    bits *= pattern
    bits |= sign
    return bits.view(value.dtype)
