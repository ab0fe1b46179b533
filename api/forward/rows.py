"""Read the rows that a model is judged on: JSON Lines of texts with labels, or of outputs.

Needs no torch, so that a command can refuse a bad file before it loads a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.errors import OptionError, SourceError

MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Labelled:
    """Hold a text and its class.

    Attributes:
        text: what the model reads.
        label: the class; numbers are kept as their digits.
    """

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Completion:
    """Hold what a causal model reads and what it should go on with.

    Nothing is put between the two: a separator belongs to the input.

    Attributes:
        input: the prompt; may be empty.
        output: what is scored.
    """

    input: str
    output: str


Row = Labelled | Completion


def read_rows(path: Path) -> list[Row]:
    """Read a JSON Lines file of ``{"text", "label"}`` or ``{"input", "output"}``.

    Other fields are ignored, and so are empty lines.

    Raises:
        SourceError: the file is absent or empty, a line is no such row, or both kinds are mixed.
    """
    rows = list(_rows(path))
    if not rows:
        raise SourceError("there are no rows", file=path.name, expected="JSON Lines")
    if len({type(row) for row in rows}) > 1:
        raise SourceError(
            "rows of both kinds are mixed",
            file=path.name,
            expected="text and label everywhere, or input and output everywhere",
            actual="both",
        )
    return rows


def label_names(rows: Sequence[Row]) -> list[str]:
    """List the distinct labels, sorted as strings: the order of a classifier's outputs."""
    return sorted({row.label for row in rows if isinstance(row, Labelled)})


def row_text(row: Row) -> str:
    """Give all that a model would read of a row."""
    return row.text if isinstance(row, Labelled) else row.input + row.output


def check_labels(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Refuse rows whose label the model cannot answer.

    Raises:
        OptionError: a label is not among the names.
    """
    if unknown := sorted(set(label_names(rows)) - set(names)):
        raise OptionError(
            "a row has a label that is not in the list",
            field="labels",
            expected=_some(names),
            actual=_some(unknown),
        )


def _rows(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield _row(line, f"{path.name} line {number}")
    except OSError as error:
        raise SourceError(f"the rows cannot be read: {error.strerror}", file=str(path)) from error


def _row(line: bytes, where: str) -> Row:
    if len(line) > MAX_LINE_BYTES:
        raise SourceError("a line is too long", file=where, expected=f"{MAX_LINE_BYTES} bytes")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"the line is not JSON: {error}", file=where) from error
    if isinstance(values, dict):
        text, label = values.get("text"), values.get("label")
        if isinstance(text, str) and type(label) in {str, int}:
            return Labelled(text, str(label))
        prompt, output = values.get("input"), values.get("output")
        if isinstance(prompt, str) and isinstance(output, str) and output:
            return Completion(prompt, output)
    raise SourceError(
        "the line is no row",
        file=where,
        expected='{"text": …, "label": …} or {"input": …, "output": …}',
        actual=line[:60].decode(errors="replace"),
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} … ({len(names)} in all)" if len(names) > 8 else shown
