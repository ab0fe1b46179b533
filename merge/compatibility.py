"""Say which adapters may be merged with one another, and name what keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence

from merge.errors import IncompatibleError
from merge.expert import Expert
from registry.base_names import base_key_of


def require_compatible(experts: Sequence[Expert]) -> None:
    """Check that all adapters belong to one base and give their modules the same shapes.

    Raises:
        IncompatibleError: two of them differ, with the setting or module and both values.
    """
    first = experts[0]
    for other in experts[1:]:
        _require_same_base(first, other)
        if bool(first.config.get("fan_in_fan_out")) != bool(other.config.get("fan_in_fan_out")):
            raise _setting_differs(first, other, "fan_in_fan_out")
        for name in sorted(first.modules.keys() & other.modules.keys()):
            ours, theirs = first.shapes(first.modules[name]), other.shapes(other.modules[name])
            if ours != theirs:
                raise _apart(first, other, field=name, expected=str(ours), actual=str(theirs))


def _setting_differs(first: Expert, other: Expert, key: str) -> IncompatibleError:
    ours, theirs = first.config.get(key), other.config.get(key)
    return _apart(first, other, field=key, expected=str(ours), actual=str(theirs))


def _require_same_base(first: Expert, other: Expert) -> None:
    key = "base_model_name_or_path"
    ours, theirs = first.config.get(key), other.config.get(key)
    if ours and theirs and base_key_of(str(ours)) != base_key_of(str(theirs)):
        raise _setting_differs(first, other, key)


def require_same_full_tensors(first: Expert, other: Expert) -> None:
    """Check that two adapters have the same tensors beside their LoRA part, in the same shapes.

    Raises:
        IncompatibleError: one lacks a tensor or has another shape.
    """
    for name in sorted({*first.full_tensors, *other.full_tensors}):
        ours = first.shape(name) if name in first.full_tensors else None
        theirs = other.shape(name) if name in other.full_tensors else None
        if ours != theirs:
            raise _apart(
                first,
                other,
                field=name,
                expected=str(ours),
                actual=str(theirs),
                hint="--heads first keeps those of the first",
            )


def _apart(
    first: Expert, other: Expert, *, field: str, expected: str, actual: str, hint: str = ""
) -> IncompatibleError:
    return IncompatibleError(
        f"{other.path.name} cannot be merged with {first.path.name}: {field} differs",
        file=str(other.path),
        field=field,
        expected=expected,
        actual=actual,
        hint=hint,
    )
