"""Say which adapters may be merged with one another, and name what keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence

from compress.adapter import SourceKind
from merge.errors import IncompatibleError
from merge.expert import Expert
from registry.base_names import base_key_of

_FORMATS = {SourceKind.PEFT: "a PEFT folder", SourceKind.RAW: "weights without a config"}


def require_compatible(experts: Sequence[Expert], *, override: str = "") -> None:
    """Check that all adapters belong to one base and give their modules the same shapes.

    Every module has one shape wherever it stands, also where only the second and the third adapter
    have it: that is the fingerprint of a base, as far as adapters show it. `fan_in_fan_out` does
    not matter: A and B have the same shapes either way, PEFT saves what the layer that it came to
    last was like, and on loading sets it anew for every layer.

    Args:
        experts: opened adapters.
        override: why different names of the base do not matter; shapes always do.

    Raises:
        IncompatibleError: two of them differ, with the setting or module and both values.
    """
    seen: dict[str, Expert] = {}
    known = next((expert for expert in experts if expert.base), experts[0])
    for expert in experts:
        first = experts[0]
        if expert.kind is not first.kind:
            raise _apart(
                first,
                expert,
                field="format",
                expected=_FORMATS[first.kind],
                actual=_FORMATS[expert.kind],
            )
        if not override:
            _require_same_base(known, expert)
        for name, module in sorted(expert.modules.items()):
            other = seen.setdefault(name, expert)
            ours, theirs = other.shapes(other.modules[name]), expert.shapes(module)
            if ours != theirs:
                raise _apart(other, expert, field=name, expected=str(ours), actual=str(theirs))


def _require_same_base(first: Expert, other: Expert) -> None:
    if first.base and other.base and base_key_of(first.base) != base_key_of(other.base):
        raise _apart(
            first,
            other,
            field="base_model_name_or_path",
            expected=first.base,
            actual=other.base,
            hint="if both names mean one model, say why: --same-base REASON",
        )


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


def require_same_bytes(name: str, experts: Sequence[Expert]) -> None:
    """Check that a tensor is the same everywhere: one of whole numbers cannot be averaged.

    Raises:
        IncompatibleError: two adapters have other bytes or another type.
    """
    first = experts[0]
    for other in experts[1:]:
        types = first.dtype(name), other.dtype(name)
        if types[0] != types[1] or first.raw(name) != other.raw(name):
            raise _apart(
                first,
                other,
                field=name,
                expected=f"the same {types[0]}, which cannot be averaged",
                actual=f"another {types[1]}",
                hint="--heads first keeps that of the first",
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
