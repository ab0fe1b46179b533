"""ComPEFT: keep the sign of the largest values of a task vector and one scale.

P. Yadav, L. Choshen, C. Raffel, M. Bansal, "ComPEFT" (arXiv 2311.13171): τ̃ = α · σ(τ) · sgn(τ) ⊙
1[|τ| ≥ thr], where thr is the (d − int(d·k))-th smallest magnitude of all d values at density k,
and σ their unbiased standard deviation before pruning. As published this keeps int(d·k)+1 values,
more on ties. We differ where the published code fails: a density above 1 is refused instead of read
as percent, density 1 keeps every sign, and a vector without spread (one element, or constant) takes
the mean magnitude as σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.errors import OptionError
from compress.lora import Role
from compress.sparsify import Chunks, Survey, magnitude_bits, survey
from compress.task_vector import Part, TaskVector

Progress = Callable[[int, int], None]


class Scope(StrEnum):
    """Say which values compete for being kept and share a scale."""

    GLOBAL = "global"
    FACTOR = "factor"
    TENSOR = "tensor"


@dataclass(frozen=True, slots=True)
class Compeft:
    """Hold the options of the method.

    Attributes:
        density: share of values kept, in (0, 1]; 1 keeps the sign of every value.
        alpha: what multiplies the standard deviation, above 0.
        scope: all values together as published, all A beside all B, or each tensor alone.
        exact_count: keep exactly int(d·density) values, ties broken by position, not one more as
            published.

    Raises:
        OptionError: an option is out of its range.
    """

    density: float = 0.2
    alpha: float = 1.0
    scope: Scope = Scope.GLOBAL
    exact_count: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise OptionError(
                "the density is out of its range",
                field="density",
                expected="a share in (0, 1]",
                actual=str(self.density),
                hint="20 percent is 0.2",
            )
        if not 0 < self.alpha < math.inf:
            raise OptionError(
                "alpha is out of its range",
                field="alpha",
                expected="a finite number above 0",
                actual=str(self.alpha),
            )
        if self.scope not in set(Scope):
            raise OptionError(
                "the scope is unknown",
                field="scope",
                expected=", ".join(Scope),
                actual=str(self.scope),
            )


@dataclass(frozen=True, slots=True)
class Group:
    """Hold the decision for values that compete with each other.

    Attributes:
        name: "all", a role or a tensor's name.
        parts: its tensors in alphabetical order.
        survey: what was measured.
        sigma: the scale before alpha.
        scale: alpha · sigma: what +1 stands for.
        wide: magnitudes are compared in float64, because a tensor has that type.
        quotas: how many ties each tensor keeps, by name; None keeps all.
    """

    name: str
    parts: tuple[Part, ...]
    survey: Survey
    sigma: float
    scale: float
    wide: bool
    quotas: Mapping[str, int] | None

    @property
    def kept(self) -> int:
        """Count the values that pass the mask (a zero among them still has no sign)."""
        ties = self.survey.ties if self.quotas is None else sum(self.quotas.values())
        return self.survey.above + ties


def decide(
    vector: TaskVector, method: Compeft, survey: Callable[[Chunks, int], Survey] = survey
) -> list[Group]:
    """Choose threshold and scale of every group: passes over the vector, nothing kept of it.

    Args:
        vector: what is compressed.
        method: how.
        survey: who measures a vector, on which device; all give the same bits.

    Raises:
        NonFiniteError: a value is NaN or infinite.
        OptionError: `exact_count` would keep nothing.
    """
    return [
        _decide(vector, (name, parts), method, survey)
        for name, parts in _group(vector.parts, method.scope)
    ]


class Ternariser:
    """Turn slices of a task vector into trits, by the decisions of its groups."""

    def __init__(self, vector: TaskVector, groups: Iterable[Group]) -> None:
        self._vector = vector
        self._group = {part.info.name: group for group in groups for part in group.parts}
        self._ties_left: dict[str, int] = {}

    def group_of(self, part: Part) -> Group:
        """Give the group of a tensor."""
        return self._group[part.info.name]

    def whole(self, part: Part) -> Array:
        """Give all trits of a tensor, int8 flat."""
        pieces = [
            self.trits(part, start, values) for _, start, values in self._vector.chunks([part])
        ]
        return np.concatenate(pieces)

    def trits(self, part: Part, start: int, values: Array) -> Array:
        """Give the trits of one slice; slices of a tensor must come in order from its start."""
        group = self._group[part.info.name]
        bits = magnitude_bits(_in_type(values, wide=group.wide))
        threshold = bits.dtype.type(group.survey.threshold_bits)
        keep = bits >= threshold
        if group.quotas is not None:
            left = group.quotas[part.info.name] if start == 0 else self._ties_left[part.info.name]
            ties = np.flatnonzero(bits == threshold)
            keep[ties[left:]] = False
            self._ties_left[part.info.name] = max(0, left - len(ties))
        trits = (values > 0).view(np.int8) - (values < 0).view(np.int8)
        trits *= keep.view(np.int8)
        return trits


def _group(parts: tuple[Part, ...], scope: Scope) -> list[tuple[str, tuple[Part, ...]]]:
    if scope is Scope.TENSOR:
        return [(part.info.name, (part,)) for part in parts]
    if scope is Scope.FACTOR:
        by_role = [(role, tuple(p for p in parts if p.role is role)) for role in Role]
        return [(role.name, members) for role, members in by_role if members]
    return [("all", parts)] if parts else []


def _decide(
    vector: TaskVector,
    named: tuple[str, tuple[Part, ...]],
    method: Compeft,
    survey: Callable[[Chunks, int], Survey],
) -> Group:
    name, parts = named
    size = sum(part.info.size for part in parts)
    keep = int(size * method.density)
    rank = size - keep
    wide = any(WEIGHT_DTYPES[part.info.dtype] == np.float64 for part in parts)
    if method.exact_count:
        rank += 1
        if not keep:
            raise OptionError(
                "nothing would be kept",
                field="density",
                expected=f"at least {1 / size:g} for the {size} values of {name}",
                actual=str(method.density),
            )
    found = survey(
        lambda: (_in_type(values, wide=wide) for _, _, values in vector.chunks(parts)), rank
    )
    sigma = found.std or found.mean_magnitude
    quotas = None
    if method.exact_count:
        quotas = _quotas(vector, parts, found, keep=keep)
    return Group(name, parts, found, sigma, method.alpha * sigma, wide, quotas)


def _quotas(
    vector: TaskVector, parts: tuple[Part, ...], found: Survey, *, keep: int
) -> dict[str, int]:
    """Share out the ties that may stay, in order of position."""
    wide = any(WEIGHT_DTYPES[part.info.dtype] == np.float64 for part in parts)
    left = keep - found.above
    quotas: dict[str, int] = {part.info.name: 0 for part in parts}
    for part, _, values in vector.chunks(parts):
        bits = magnitude_bits(_in_type(values, wide=wide))
        ties = int((bits == bits.dtype.type(found.threshold_bits)).sum())
        taken = min(left, ties)
        quotas[part.info.name] += taken
        left -= taken
    return quotas


def _in_type(values: Array, *, wide: bool) -> Array:
    """Widen to float64 where a tensor of the group is float64, so that magnitudes compare."""
    return values.astype(np.float64, copy=False) if wide else widen(values)
