"""Test that the planted gain is found, by loss and by accuracy, and that options are checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from api.forward.evaluate import encode, score
from api.forward.gain import GainCurve, GainPoint, Goal, gain_curve, tune_gain
from api.forward.models import load
from api.forward.rows import Completion, Labelled
from compress.errors import OptionError
from tests.api.forward import plain_models

MakeAdapter = Callable[..., Path]
TEXTS = ("zero", "one two", "three four five", "seven", "two two", "six five four", "one", "five")
COPIES = 60


def _planted(encoder: Path, folder: Path, gain: float) -> list[Labelled]:
    """Give rows whose labels are spread as a model with that gain believes: its loss is least."""
    model = plain_models.plain_classifier(encoder, folder, gain=gain)
    rows = []
    for text, chances in zip(TEXTS, plain_models.probabilities(model, encoder, TEXTS), strict=True):
        for label, chance in zip("abc", chances, strict=True):
            rows += [Labelled(text, label)] * round(COPIES * float(chance))
    return rows


@pytest.mark.parametrize("planted", [0.8, 1.0, 1.4])
def test_the_planted_gain_has_the_least_loss(
    encoder: Path, make_expert: MakeAdapter, planted: float
) -> None:
    folder = make_expert(factor=0.6)
    rows = _planted(encoder, folder, planted)
    curve = tune_gain(encoder, folder, rows, gains=(0.6, 0.8, 1.0, 1.2, 1.4, 1.6))
    assert curve.gain == planted
    assert curve.rows == len(rows)
    losses = [point.loss for point in curve.points]
    best = losses.index(min(losses))
    assert losses[: best + 1] == sorted(losses[: best + 1], reverse=True)
    assert losses[best:] == sorted(losses[best:])


def test_each_point_is_what_a_plain_model_with_that_gain_gives(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert(factor=0.6)
    rows = [Labelled(text, "abc"[at % 3]) for at, text in enumerate(TEXTS)]
    curve = tune_gain(encoder, folder, rows, gains=(0.5, 2.0))
    for point in curve.points:
        model = plain_models.plain_classifier(encoder, folder, gain=point.gain)
        chances = plain_models.probabilities(model, encoder, TEXTS)
        losses = [-math.log(chances[at, at % 3]) for at in range(len(TEXTS))]
        assert point.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_model_is_left_as_it_was(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert(factor=0.6))
    batches = encode(loaded, [Labelled(t, "abc"[at % 3]) for at, t in enumerate(TEXTS)])
    before = score(loaded, batches)
    curve = gain_curve(loaded, batches, gains=(2.0, 0.5, 2.0))
    assert [point.gain for point in curve.points] == [0.5, 2.0]
    assert score(loaded, batches) == before


def test_ties_in_accuracy_go_by_loss_and_then_to_the_gain_closest_to_1() -> None:
    points = (
        GainPoint(0.7, accuracy=0.9, loss=0.5),
        GainPoint(0.8, accuracy=0.9, loss=0.4),
        GainPoint(1.0, accuracy=0.9, loss=0.4),
        GainPoint(1.1, accuracy=0.9, loss=0.4),
        GainPoint(1.4, accuracy=0.7, loss=0.3),
    )
    assert GainCurve(points, Goal.ACCURACY, 10).gain == 1.0
    assert GainCurve(points, Goal.LOSS, 10).gain == 1.4
    assert GainCurve(points, Goal.LOSS, 10).best_by(Goal.ACCURACY) == points[2]
    assert GainCurve(points[:1], Goal.LOSS, 10).best == points[0]


@pytest.mark.parametrize("gains", [(), (0.0, 1.0), (-1.0,), (math.inf,), (math.nan,)])
def test_gains_out_of_range_are_refused(
    encoder: Path, make_expert: MakeAdapter, gains: tuple[float, ...]
) -> None:
    with pytest.raises(OptionError, match="finite numbers above 0"):
        tune_gain(encoder, make_expert(), [Labelled("one", "a")], gains=gains)


def test_a_model_without_lora_is_refused(causal: Path) -> None:
    loaded = load(causal)
    batches = encode(loaded, [Completion("one", "two three")])
    with pytest.raises(OptionError, match="no LoRA modules"):
        gain_curve(loaded, batches)
