"""See the values of a segment as ternary tensors with scales, for kernels that apply such directly.

A level is Σ 3ʲ·tⱼ, and in the quantiser of the odd numbers a value is one step nearer to zero than
twice its level (`trellis.py`). So values in steps are a sum of ternary tensors: the planes tⱼ, each
with the scale 2·3ʲ, and the signs of odd values, with the scale −1. Two bits a trit and no dense
tensor: a vector's product with x is Σ scale · (Σ x where +1 − Σ x where −1), times its gain.
"""

from __future__ import annotations

import numpy as np

from compress import masks
from compress.dtypes import Array

_ODD_SCALE = -1.0


def layer_scales(planes: int) -> tuple[float, ...]:
    """Give what +1 stands for in each ternary tensor of so many planes and the odd ones, in steps.

    Returns:
        one scale for every tensor that `split` gives, in its order.
    """
    return (*(2.0 * 3.0**plane for plane in range(planes - 1, -1, -1)), _ODD_SCALE)


def split(values: Array, planes: int) -> list[masks.Masks]:
    """Split values into ternary tensors: planes, coarsest first, then the signs of odd values.

    Args:
        values: int16 [n], in steps.
        planes: as many as the largest level needs.
    """
    signs = np.sign(values)
    odd = (values & 1) * signs
    rest = (np.abs(values) + 1) // 2
    trits = []
    for _ in range(planes):
        digit = (rest + 1) % 3 - 1
        rest = (rest - digit) // 3
        trits.append(digit * signs)
    ordered = [*reversed(trits), odd]
    return [masks.pack_masks(tensor.astype(np.int8)) for tensor in ordered]
