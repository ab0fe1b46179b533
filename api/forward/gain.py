"""Choose one global gain on ΔW by a validation file, without compressing again.

At low rates the decoded ΔW is shorter than the original one, and a gain above 1 often gives back
accuracy although it raises the error of ΔW. The gain multiplies every LoRA scale of a loaded model;
whoever keeps the result multiplies every B by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from api.forward.evaluate import MAX_TOKENS, Batch, encode, score
from api.forward.models import LoadedModel, load, scaled
from api.forward.rows import Row
from compress.errors import OptionError

#: Steps of 0.1 around 1, further upwards, where the norm of ΔW is usually lost.
GAINS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)


class Goal(StrEnum):
    """Say what the best gain is: the least loss, or the highest accuracy (ties by loss)."""

    LOSS = "loss"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class GainPoint:
    """Hold what one gain leads to on the validation rows.

    Attributes:
        gain: the factor on ΔW.
        accuracy: share of right answers, in [0, 1].
        loss: mean cross-entropy in nats.
    """

    gain: float
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class GainCurve:
    """Hold every gain that was tried, in rising order.

    Attributes:
        points: what each gain leads to.
        goal: what `gain` is best at.
        rows: validation rows.
    """

    points: tuple[GainPoint, ...]
    goal: Goal
    rows: int

    @property
    def best(self) -> GainPoint:
        """Give the best point by the goal; of equal ones the gain closest to 1."""
        return self.best_by(self.goal)

    @property
    def gain(self) -> float:
        """Give the best gain by the goal."""
        return self.best.gain

    def best_by(self, goal: Goal) -> GainPoint:
        """Give the best point by another goal, from the same runs."""

        def rank(point: GainPoint) -> tuple[float, float, float]:
            missed = -point.accuracy if goal is Goal.ACCURACY else 0.0
            return missed, point.loss, abs(math.log(point.gain))

        return min(self.points, key=rank)


def tune_gain(
    base: Path,
    adapter: Path,
    rows: Sequence[Row],
    *,
    gains: Sequence[float] = GAINS,
    goal: Goal = Goal.LOSS,
    labels: Sequence[str] | None = None,
) -> GainCurve:
    """Try gains on ΔW and say which is best on validation rows.

    Args:
        base: folder of the base model.
        adapter: folder of the decoded LoRA adapter.
        rows: validation rows, which the adapter was not trained on.
        gains: what to try; each above 0.
        goal: what is best.
        labels: all classes in the order of the head; by default those of the rows, sorted.

    Returns:
        the curve, with the best gain.

    Raises:
        OptionError: a gain is out of its range, the adapter is no LoRA, or the rows do not fit.
        SourceError: a folder is not valid.
    """
    _require_gains(gains)
    loaded = load(base, adapter)
    batches = encode(loaded, rows, labels=labels, max_tokens=MAX_TOKENS)
    return gain_curve(loaded, batches, gains=gains, goal=goal)


def gain_curve(
    loaded: LoadedModel,
    batches: Sequence[Batch],
    *,
    gains: Sequence[float] = GAINS,
    goal: Goal = Goal.LOSS,
) -> GainCurve:
    """Do the same with a loaded model and encoded rows.

    Raises:
        OptionError: a gain is out of its range, or the adapter is no LoRA.
    """
    _require_gains(gains)
    points = []
    for gain in sorted(set(gains)):
        with scaled(loaded, gain):
            found = score(loaded, batches)
        points.append(GainPoint(gain, found.accuracy, found.loss))
    return GainCurve(tuple(points), goal, sum(len(batch.ids) for batch in batches))


def _require_gains(gains: Sequence[float]) -> None:
    if not gains or not all(0 < gain < math.inf for gain in gains):
        raise OptionError(
            "the gains are out of their range",
            field="gains",
            expected="finite numbers above 0",
            actual=", ".join(f"{gain:g}" for gain in gains) or "none",
        )
