"""Hold what methods can be told beyond weights and rank, checked once for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from merge.errors import MergeOptionError

Scalar = bool | int | float | str


class Inner(StrEnum):
    """Name what Core Space does to the cores and KnOTS to the shared singular vectors."""

    LINEAR = "linear"
    TIES = "ties"
    DARE_LINEAR = "dare_linear"
    DARE_TIES = "dare_ties"
    DELLA = "della"
    BREADCRUMBS = "breadcrumbs"
    MAGNITUDE_PRUNE = "magnitude_prune"
    SLERP = "slerp"
    MULTISLERP = "multislerp"
    KARCHER = "karcher"
    TSV = "tsv"
    ISO = "iso"
    WUDI = "wudi"


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the options of all methods; each method says which of them it takes.

    Attributes:
        density: share of entries that sparsification keeps, in (0, 1].
        scale: λ, what the merged ΔW is multiplied by.
        seed: of everything drawn at random, at least 0.
        epsilon: DELLA: keep probabilities reach from density − ε to density + ε.
        gamma: breadcrumbs: share of entries, the largest ones, that are dropped first.
        inner: what `core` and `knots` do in their space.
        ridge: WUDI: ω as a share of ‖τᵢ‖², at least 0.
        steps: WUDI: steps of Adam; 0 solves in closed form.
        learning_rate: WUDI: of Adam.
        decay: EMA: β, what one step leaves of the past, in [0, 1).
    """

    density: float = 1.0
    scale: float = 1.0
    seed: int = 0
    epsilon: float = 0.1
    gamma: float = 0.01
    inner: Inner = Inner.TIES
    ridge: float = 0.0
    steps: int = 0
    learning_rate: float = 1e-5
    decay: float = 0.9


#: Of a weight and of λ: what float32 holds, so that squares of their products stay finite.
LARGEST = 1e38

NAMES = tuple(field.name for field in fields(Options))
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    "density": (0, 1, False, True),
    "scale": (-LARGEST, LARGEST, True, True),
    "seed": (0, 2**63, True, False),
    "epsilon": (0, 0.5, True, False),
    "gamma": (0, 1, True, False),
    "ridge": (0, math.inf, True, False),
    "steps": (0, 1_000_000, True, True),
    "learning_rate": (0, math.inf, False, False),
    "decay": (0, 1, True, False),
}
_WHOLE = {"seed", "steps"}


def settle(asked: Mapping[str, Scalar]) -> Options:
    """Check options and put them together.

    Raises:
        MergeOptionError: an option is unknown, of another type, or out of its range.
    """
    values: dict[str, Scalar] = {}
    for name, value in asked.items():
        if name not in NAMES:
            raise MergeOptionError(
                f"there is no option {name}",
                field=name,
                expected=", ".join(NAMES),
                actual=name,
            )
        values[name] = inner_named(value) if name == "inner" else _number(name, value)
    return Options(**values)  # type: ignore[arg-type]  # names and types are checked


def inner_named(value: Scalar) -> Inner:
    """Return an inner method.

    Raises:
        MergeOptionError: there is none of this name.
    """
    try:
        return Inner(str(value))
    except ValueError:
        raise MergeOptionError(
            "there is no such inner method",
            field="inner",
            expected=", ".join(Inner),
            actual=str(value),
        ) from None


def _number(name: str, value: Scalar) -> int | float:
    low, high, with_low, with_high = _RANGES[name]
    whole = name in _WHOLE
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not fits or isinstance(value, str):
        raise _refusal(name, "a whole number" if whole else "a number", value)
    above = value >= low if with_low else value > low
    below = value <= high if with_high else value < high
    if not (above and below and math.isfinite(value)):
        text = f"{'[' if with_low else '('}{low:g}, {high:g}{']' if with_high else ')'}"
        raise _refusal(name, f"a number in {text}", value)
    return int(value) if whole else float(value)


def _refusal(name: str, expected: str, actual: object) -> MergeOptionError:
    return MergeOptionError(
        f"{name} is out of its range", field=name, expected=expected, actual=str(actual)[:40]
    )
