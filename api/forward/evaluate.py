"""Measure how good a model is on rows: accuracy and mean loss, the same numbers every time.

Rows are sorted by their number of tokens, so that a batch wastes little on padding; results do not
depend on the order in which they came. A classifier is judged on texts with labels, a causal model
on the tokens of the outputs, each predicted from all true tokens before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from api.forward.models import LoadedModel, load
from api.forward.rows import Completion, Labelled, Row, check_labels, label_names
from compress.errors import OptionError

MAX_TOKENS = 128
BATCH_ROWS = 64
#: What the loss leaves out: padding and the tokens of the input.
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Score:
    """Hold how good a model is.

    Attributes:
        rows: how many rows were judged.
        judged: how many answers: one per text, or one per output token.
        accuracy: share of the answers whose most likely one is right, in [0, 1].
        loss: mean cross-entropy of the answers, in nats.
    """

    rows: int
    judged: int
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold the tokens of some rows, filled up to the same length.

    Attributes:
        ids: int64 [rows, tokens].
        mask: int64 [rows, tokens], 1 where a token is real.
        answers: int64 [rows] of class numbers, or [rows, tokens] of the tokens to predict at each
            position (−100 where none is judged).
    """

    ids: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor


def encode(
    loaded: LoadedModel,
    rows: Sequence[Row],
    *,
    labels: Sequence[str] | None = None,
    max_tokens: int = MAX_TOKENS,
    batch_rows: int = BATCH_ROWS,
) -> list[Batch]:
    """Turn rows into batches, once for any number of adapters on the same base.

    Args:
        loaded: whose tokenizer and outputs count.
        rows: what to judge on; texts with labels for a classifier, else outputs.
        labels: all classes in the order of the head; by default those of the rows, sorted.
        max_tokens: longer texts lose their end, longer inputs their beginning.
        batch_rows: rows at once.

    Raises:
        OptionError: the rows do not fit the model, or the labels do not fit the head.
    """
    wanted = Labelled if loaded.outputs else Completion
    if not rows or not all(isinstance(row, wanted) for row in rows):
        raise OptionError(
            "the rows do not fit the model",
            field="rows",
            expected="text and label" if loaded.outputs else "input and output",
            actual="something else" if rows else "no rows",
        )
    most = min(max_tokens, loaded.max_positions)
    names = _names(loaded, rows, labels)
    coded = [_tokens(loaded, row, names, most=most) for row in rows]
    coded.sort(key=lambda pair: (len(pair[0]), pair))
    starts = range(0, len(coded), batch_rows)
    return [_batch(coded[at : at + batch_rows], loaded.pad_id) for at in starts]


def score(loaded: LoadedModel, batches: Sequence[Batch]) -> Score:
    """Run a model over batches and judge its answers."""
    right, loss, judged = 0, 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            logits = loaded.model(input_ids=batch.ids, attention_mask=batch.mask).logits
            flat, answers = logits.flatten(0, -2).double(), batch.answers.flatten()
            loss += float(
                torch.nn.functional.cross_entropy(
                    flat, answers, ignore_index=_IGNORED, reduction="sum"
                )
            )
            right += int((flat.argmax(-1) == answers).sum())
            judged += int((answers != _IGNORED).sum())
    rows = sum(len(batch.ids) for batch in batches)
    return Score(rows, judged, right / judged, loss / judged)


def evaluate(
    base: Path,
    adapter: Path | None,
    rows: Sequence[Row],
    *,
    labels: Sequence[str] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Score:
    """Load a base with an adapter and judge it on rows; see `load` and `encode`.

    Raises:
        SourceError: a folder is not valid; see `load`.
        OptionError: rows or labels do not fit the model.
    """
    loaded = load(base, adapter)
    return score(loaded, encode(loaded, rows, labels=labels, max_tokens=max_tokens))


def accuracy(
    base: Path,
    adapter: Path | None,
    rows: Sequence[Row],
    *,
    labels: Sequence[str] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> float:
    """Give the accuracy alone; see `evaluate`."""
    return evaluate(base, adapter, rows, labels=labels, max_tokens=max_tokens).accuracy


def _names(loaded: LoadedModel, rows: Sequence[Row], labels: Sequence[str] | None) -> list[str]:
    names = list(labels) if labels is not None else label_names(rows)
    if len(names) != loaded.outputs:
        raise OptionError(
            "the labels do not fit the classification head",
            field="labels",
            expected=f"{loaded.outputs} classes",
            actual=str(len(names)),
            hint="rows that lack a class need the whole list of labels",
        )
    check_labels(rows, names)
    return names


def _tokens(
    loaded: LoadedModel, row: Row, names: Sequence[str], *, most: int
) -> tuple[list[int], list[int]]:
    """Give the ids of a row and its answers: one class, or the token that follows each."""
    if isinstance(row, Labelled):
        # A text without any token would leave nothing to attend to.
        ids = text_ids(loaded, row.text, most=most) or [loaded.pad_id]
        return ids, [names.index(row.label)]
    prompt: list[int] = loaded.tokenizer(row.input)["input_ids"]
    output: list[int] = loaded.tokenizer(row.output, add_special_tokens=False)["input_ids"]
    output = output[: most - 1]
    prompt = prompt[len(prompt) - min(len(prompt), most - len(output)) :]
    ids = prompt + output
    unjudged = max(1, len(prompt))
    if len(ids) <= unjudged:
        raise OptionError(
            "an output has no token that can be judged",
            field="output",
            expected="tokens after the first of the row",
            actual=repr(row.output[:40]),
        )
    return ids, [*([_IGNORED] * (unjudged - 1)), *ids[unjudged:], _IGNORED]


def text_ids(loaded: LoadedModel, text: str, *, most: int) -> list[int]:
    """Give the token ids of a text with the model's special tokens, at most `most`."""
    found: Any = loaded.tokenizer(text, truncation=True, max_length=most)["input_ids"]
    return list(found)


def _batch(coded: Sequence[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    width = max(len(ids) for ids, _ in coded)
    ids = [row + [pad_id] * (width - len(row)) for row, _ in coded]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row, _ in coded]
    longest = max(len(answers) for _, answers in coded)
    answers = [row + [_IGNORED] * (longest - len(row)) for _, row in coded]
    target = torch.tensor(answers)
    return Batch(torch.tensor(ids), torch.tensor(mask), target[:, 0] if longest == 1 else target)
