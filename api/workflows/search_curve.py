"""Hold how weights are searched and what came of it, as plain values for people and for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compress.errors import OptionError


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Say how weights are searched.

    Attributes:
        steps: merges that are tried, at least 1.
        seed: draws where the search starts again once it has converged.
        low: lowest weight.
        high: highest weight.
        penalty: factor of the mean of |wᵢ| that is added to the loss.

    Raises:
        OptionError: a value is out of its range.
    """

    steps: int = 40
    seed: int = 0
    low: float = -1.5
    high: float = 1.5
    penalty: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1:
            raise search_refusal("steps", "1 or more", self.steps)
        if not -math.inf < self.low < self.high < math.inf:
            raise search_refusal(
                "bounds", "low < high, both finite", f"{self.low:g}, {self.high:g}"
            )
        if not 0 <= self.penalty < math.inf:
            raise search_refusal("penalty", "0 or more", self.penalty)


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """Hold what one choice of weights leads to on the rows.

    Attributes:
        weights: one for each input.
        loss: mean cross-entropy in nats; infinite where there is no merge with these weights, or
            where it breaks the model.
        accuracy: share of right answers, in [0, 1].
        objective: the loss with its penalty, which is made small.
    """

    weights: tuple[float, ...]
    loss: float
    accuracy: float
    objective: float

    def to_json(self) -> dict[str, Any]:
        """Give plain values; what is infinite is null."""
        return {
            "weights": list(self.weights),
            "loss": _finite(self.loss),
            "accuracy": self.accuracy,
            "objective": _finite(self.objective),
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hold what was tried, in order, and what was best.

    Attributes:
        curve: all points; the first has the weights that the method usually takes.
        rows: how many rows were judged.
    """

    curve: tuple[SearchPoint, ...]
    rows: int

    @property
    def before(self) -> SearchPoint:
        """Give what the usual weights lead to."""
        return self.curve[0]

    @property
    def after(self) -> SearchPoint:
        """Give the point of the lowest objective; of equal ones the first."""
        return min(self.curve, key=lambda point: point.objective)

    @property
    def weights(self) -> tuple[float, ...]:
        """Give the best weights."""
        return self.after.weights

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "weights": list(self.weights),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "rows": self.rows,
            "curve": [point.to_json() for point in self.curve],
        }


def search_refusal(field: str, expected: str, actual: object) -> OptionError:
    """Give the error of a search that cannot be made."""
    return OptionError(
        "weights cannot be searched so", field=field, expected=expected, actual=str(actual)
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
