"""Hold the rules that every entry of a safetensors header must keep.

`read_tensor` judges one entry, `check_cover` all of them together: no hole, no overlap, no rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from registry.errors import HeaderError
from registry.validation.reasons import Reason
from registry.validation.strict_json import Json, printable
from registry.validation.tensor_info import DTYPE_BITS, TensorInfo
from registry.validation.tensor_names import check_tensor_name

_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_MAX_INT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """Bound what a header may make us build.

    Attributes:
        header_bytes: length of the JSON (the Hugging Face client's own limit by default).
        tensors: how many tensors.
        name_chars: length of a tensor's name.
        dimensions: length of a shape.
        padding_bytes: spaces after the JSON.
    """

    header_bytes: int = 25_000_000
    tensors: int = 50_000
    name_chars: int = 512
    dimensions: int = 16
    padding_bytes: int = 4096


def header_fault(
    what: str, reason: Reason, *, file: str, field: str = "", expected: str = "", actual: str = ""
) -> NoReturn:
    """Raise the error for one broken rule.

    Raises:
        HeaderError: always.
    """
    where = f"{file}: tensor {field!r}" if field else file or "the file"
    detail = f" (expected {expected}, got {actual})" if expected else ""
    raise HeaderError(
        f"{where} {what}{detail}",
        reason=reason,
        file=file,
        field=field,
        expected=expected,
        actual=actual,
        hint="write the file again with the safetensors library, or send it again",
    )


def read_tensor(name: str, value: Json, limits: HeaderLimits, file: str) -> TensorInfo:
    """Check one entry of the header and return what it describes.

    Raises:
        HeaderError: it breaks a rule.
    """
    problem = check_tensor_name(name, max_chars=limits.name_chars)
    shown = printable(name)
    if problem:
        header_fault(problem, Reason.TENSOR_NAME, file=file, field=shown)
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        header_fault(
            "is not described as it must be",
            Reason.TENSOR_FIELDS,
            file=file,
            field=shown,
            expected="exactly dtype, shape and data_offsets",
            actual=printable(", ".join(value)) if isinstance(value, dict) else type(value).__name__,
        )
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        header_fault(
            "has an unknown dtype",
            Reason.TENSOR_DTYPE,
            file=file,
            field=shown,
            expected="one of " + ", ".join(sorted(DTYPE_BITS)),
            actual=printable(str(dtype)),
        )
    shape = _naturals(value["shape"])
    if shape is None or len(shape) > limits.dimensions:
        header_fault(
            "has a shape that is none",
            Reason.TENSOR_SHAPE,
            file=file,
            field=shown,
            expected=f"at most {limits.dimensions} whole numbers",
            actual=printable(str(value["shape"])),
        )
    offsets = _naturals(value["data_offsets"])
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        header_fault(
            "has data_offsets that are none",
            Reason.TENSOR_OFFSETS,
            file=file,
            field=shown,
            expected="[begin, end] with begin ≤ end",
            actual=printable(str(value["data_offsets"])),
        )
    tensor = TensorInfo(name, dtype, shape, offsets[0], offsets[1])
    _check_size(tensor, file)
    return tensor


def _naturals(value: Json) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    numbers: list[int] = []
    for number in value:
        if type(number) is not int or number > _MAX_INT:  # a bool is no number here
            return None
        numbers.append(number)
    return tuple(numbers)


def _check_size(tensor: TensorInfo, file: str) -> None:
    bits = tensor.count * DTYPE_BITS[tensor.dtype]
    if bits > _MAX_INT or _product_overflows(tensor.shape):
        header_fault(
            "has a shape whose size overflows",
            Reason.TENSOR_SHAPE,
            file=file,
            field=tensor.name,
            expected="fewer than 2^63 bits",
            actual=printable(str(tensor.shape)),
        )
    if bits % 8 or bits // 8 != tensor.size_bytes:
        header_fault(
            "has a shape that does not fill its bytes",
            Reason.TENSOR_SIZE,
            file=file,
            field=tensor.name,
            expected=f"{bits / 8:g} bytes for {tensor.dtype} {list(tensor.shape)}",
            actual=f"{tensor.size_bytes} bytes",
        )


def _product_overflows(shape: tuple[int, ...]) -> bool:
    """Return whether multiplying left to right overflows before a later zero hides it."""
    product = 1
    for size in shape:
        product *= size
        if product > _MAX_INT:
            return True
    return False


def check_cover(tensors: tuple[TensorInfo, ...], data_bytes: int, file: str) -> None:
    """Check that tensors, sorted by offset, cover the data area exactly.

    Raises:
        HeaderError: there is a hole, an overlap, too little or too much data.
    """
    position = 0
    for tensor in tensors:
        if tensor.begin != position:
            hole = tensor.begin > position
            header_fault(
                "leaves a hole before it" if hole else "overlaps the tensor before it",
                Reason.DATA_HOLE if hole else Reason.DATA_OVERLAP,
                file=file,
                field=tensor.name,
                expected=f"begin {position}",
                actual=f"begin {tensor.begin}",
            )
        position = tensor.end
    if position != data_bytes:
        short = position > data_bytes
        header_fault(
            "ends before its last tensor" if short else "has bytes after its last tensor",
            Reason.FILE_TRUNCATED if short else Reason.DATA_TRAILING,
            file=file,
            expected=f"{position} bytes of data",
            actual=f"{data_bytes} bytes",
        )
