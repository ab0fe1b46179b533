"""Run an adapter, compressed or not, on its model: to judge it, or to calibrate compression.

torch is imported inside the functions: it takes seconds and is an extra.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from api.forward import require_torch
from api.forward.rows import read_rows, row_text
from compress import decompress
from compress.inspection import is_tern
from compress.places import new_file

if TYPE_CHECKING:
    from api.forward.evaluate import Score


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Tell what calibrating read and measured.

    Attributes:
        modules: modules whose inputs were measured.
        rows: texts that were read.
    """

    modules: int
    rows: int


def calibrate(
    adapter: Path,
    base_model: Path,
    texts: Path,
    *,
    destination: Path,
    full: bool,
    most_rows: int,
) -> Calibrated:
    """Write the second moments of what enters each module of an adapter.

    Args:
        adapter: a PEFT folder, or a `.tern`.
        base_model: folder of the model that it belongs to.
        texts: JSON Lines of rows.
        destination: the new safetensors file.
        full: all of each moment, not its diagonal.
        most_rows: rows to read, from the top.

    Raises:
        OptionError: the packages that run models are absent, or the adapter is no LoRA.
        SourceError: the texts, the model or the adapter are not valid.
        DestinationError: the file cannot be written.
    """
    require_torch()
    rows = read_rows(texts)[:most_rows]
    from api.forward.moments import second_moments, write_moments  # noqa: PLC0415

    with as_peft(adapter) as folder:
        moments = second_moments(base_model, folder, [row_text(row) for row in rows], full=full)
    with new_file(destination) as path:
        write_moments(path, moments, rows=len(rows), base=base_model.name)
    return Calibrated(len(moments), len(rows))


def judge(adapter: Path, base_model: Path, rows: Path) -> Score:
    """Give accuracy and loss of an adapter on rows.

    Args:
        adapter: a PEFT folder, or a `.tern`.
        base_model: folder of the model that it belongs to.
        rows: JSON Lines of rows.

    Raises:
        OptionError: the packages that run models are absent, or the rows do not fit the model.
        SourceError: the rows, the model or the adapter are not valid.
    """
    require_torch()
    found = read_rows(rows)
    from api.forward.evaluate import evaluate  # noqa: PLC0415

    with as_peft(adapter) as folder:
        return evaluate(base_model, folder, found)


@contextmanager
def as_peft(adapter: Path) -> Iterator[Path]:
    """Give an adapter as an ordinary folder; a compressed one is decoded aside."""
    if not is_tern(adapter):
        yield adapter
        return
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        folder = Path(name) / "decoded"
        decompress(adapter, folder)
        yield folder
