"""Carry vectors to a device and see floats as integers: what every launcher begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from compress.dtypes import WEIGHT_DTYPES, Array
from compress.errors import OptionError

#: Kernels count and address elements in 32 bits, with room for what lies beyond the last block.
MAX_ELEMENTS = 1 << 30


@dataclass(frozen=True, slots=True)
class FloatKind:
    """Say how a floating type lies in its bits.

    Attributes:
        code: what kernels call it: 0 float32, 1 bfloat16, 2 float16.
        bits: the integer type of the same width.
        magnitude: the mask of all bits but the sign.
        infinity: the pattern of +∞; larger magnitudes are NaN.
    """

    code: int
    bits: torch.dtype
    magnitude: int
    infinity: int


KINDS: dict[torch.dtype, FloatKind] = {
    torch.float32: FloatKind(0, torch.int32, 0x7FFFFFFF, 0x7F800000),
    torch.bfloat16: FloatKind(1, torch.int16, 0x7FFF, 0x7F80),
    torch.float16: FloatKind(2, torch.int16, 0x7FFF, 0x7C00),
}
#: The types of weights that torch has.
TORCH_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_FROM_NUMPY = {WEIGHT_DTYPES[name]: dtype for name, dtype in TORCH_DTYPES.items() if dtype in KINDS}
_TO_NUMPY = {dtype: WEIGHT_DTYPES[name] for name, dtype in TORCH_DTYPES.items()}
_OTHERS = {
    np.dtype(kind): getattr(torch, np.dtype(kind).name)
    for kind in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "c8")
}
#: torch has the unsigned types only in name, but for bytes.
_INTEGERS = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}


def on_device(values: Array | torch.Tensor, device: str) -> torch.Tensor:
    """Give float [n] values (NumPy's bfloat16 too) as a flat tensor on a device.

    Raises:
        OptionError: the type has no kernel, or there are more than `MAX_ELEMENTS`.
    """
    if isinstance(values, torch.Tensor):
        tensor = values.detach().to(device).contiguous().view(-1)
    else:
        dtype = _FROM_NUMPY.get(values.dtype)
        if dtype is None:
            raise _unsupported(str(values.dtype))
        tensor = integers_on_device(values.reshape(-1), device).view(dtype)
    if tensor.dtype not in KINDS:
        raise _unsupported(str(tensor.dtype))
    if tensor.numel() > MAX_ELEMENTS:
        raise OptionError(
            "too many values for one launch",
            field="values",
            expected=f"at most {MAX_ELEMENTS}",
            actual=str(tensor.numel()),
            hint="cut the vector into pieces",
        )
    return tensor


def integers_on_device(array: Array, device: str) -> torch.Tensor:
    """Give the same bytes on a device as uint8, or as signed integers of the same width."""
    view = np.ascontiguousarray(array).view(_INTEGERS[array.dtype.itemsize])
    return torch.from_numpy(view if view.flags.writeable else view.copy()).to(device)


def array_on_device(array: Array, device: str) -> torch.Tensor:
    """Give an array of any type that torch has on a device, in its shape.

    Raises:
        OptionError: torch has no such type.
    """
    known = {numpy: dtype for dtype, numpy in _TO_NUMPY.items()} | _OTHERS
    dtype = known.get(array.dtype)
    if dtype is None:
        raise _unsupported(str(array.dtype))
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return integers_on_device(flat, device).view(dtype).reshape(array.shape)


def on_host(values: torch.Tensor) -> Array:
    """Give float [n] values of any weight type as a NumPy array of the same bytes."""
    return values.contiguous().view(torch.uint8).cpu().numpy().view(_TO_NUMPY[values.dtype])


def bits_of(values: torch.Tensor) -> tuple[torch.Tensor, FloatKind]:
    """See floats as integers: int16 or int32 [n], sharing memory, and what their bits mean."""
    kind = KINDS[values.dtype]
    return values.view(kind.bits), kind


@triton.jit
def widen(bits: tl.tensor, kind: tl.constexpr) -> tl.tensor:
    """Give the float32 values of int16 or int32 patterns; exact, and by bits alone for bfloat16."""
    if kind == 0:
        value = bits.to(tl.float32, bitcast=True)
    elif kind == 1:
        value = (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        value = bits.to(tl.float16, bitcast=True).to(tl.float32)
    return value


def _unsupported(dtype: str) -> OptionError:
    return OptionError(
        "there is no kernel for this type",
        field="dtype",
        expected="float32, bfloat16 or float16",
        actual=dtype,
        hint="use the CPU",
    )
