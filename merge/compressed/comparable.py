"""Say which experts can be compared with one another, and of the others why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from merge.compressed.experts import CompressedExpert
from merge.compressed.similarity import Space
from registry.base_names import base_key_if_named


@dataclass(frozen=True, slots=True)
class Refused:
    """Name an expert that is left out, and why."""

    label: str
    reason: str


def comparable(
    experts: Sequence[CompressedExpert], *, space: Space = Space.DELTA
) -> tuple[list[CompressedExpert], list[Refused]]:
    """Keep the experts that fit those before them; the first always stays, if it has such a space.

    Returns:
        experts of one base model and equal shapes, and who is left out.
    """
    kept: list[CompressedExpert] = []
    refused: list[Refused] = []
    base: str | None = None
    shapes: dict[str, tuple[int, ...]] = {}
    for expert in experts:
        key = base_key_if_named(expert.base)
        reason = _without_space(expert, space) or _other_base(key, base, expert)
        reason = reason or _other_shapes(expert, shapes, space)
        if reason:
            refused.append(Refused(expert.label, reason))
            continue
        base = base or key
        kept.append(expert)
        for name in expert.modules:
            shapes.setdefault(name, _shape(expert, name, space))
    return kept, refused


def _without_space(expert: CompressedExpert, space: Space) -> str:
    described = [name for name, module in expert.modules.items() if module.scales is None]
    if space is Space.DELTA or not described:
        return ""
    return f"{expert.method} describes ΔW itself and keeps no factors to compare"


def _other_base(key: str | None, base: str | None, expert: CompressedExpert) -> str:
    if key is None or base is None or key == base:
        return ""
    return f"another base model: {expert.base}"


def _other_shapes(
    expert: CompressedExpert, shapes: dict[str, tuple[int, ...]], space: Space
) -> str:
    for name in expert.modules:
        expected, actual = shapes.get(name), _shape(expert, name, space)
        if expected is not None and expected != actual:
            what = "shape" if space is Space.DELTA else "shape or rank"
            return f"another {what} of {name}: {list(actual)}, not {list(expected)}"
    return ""


def _shape(expert: CompressedExpert, name: str, space: Space) -> tuple[int, ...]:
    module = expert.modules[name]
    return module.shape if space is Space.DELTA else (*module.shape, module.rank)
