"""Check that what `merge_speed` measures does the same work: ours, PEFT's and mergekit's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import merge_speed
from benchmarks.merge_speed import Case, run_mergekit, run_ours, run_peft, write_adapter
from compress.dtypes import Array


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case("ours", "linear", str(tmp_path), 3, 1, quick=True)
    for n in range(made.adapters):
        write_adapter(made.inputs / str(n), n, made)
    return made


def delta(folder: Path) -> Array:
    """Return ΔW of one module of a folder, as its config scales it."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    stem = "base_model.model.layers.0.up_proj"
    a, b = (tensors[f"{stem}.lora_{side}.weight"].astype(np.float64) for side in "AB")
    return np.asarray(config["lora_alpha"] / len(a) * b @ a)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("theirs", "same"), [("cat", "linear"), ("svd", "linear --rank 16")])
def test_peft_does_the_same(case: Case, tmp_path: Path, theirs: str, same: str) -> None:
    pytest.importorskip("peft")
    assert merge_speed.PEFT[theirs][0] == same
    (tmp_path / "x").mkdir()
    run_ours(replace(case, what=same), tmp_path)
    assert run_peft(replace(case, who="peft", what=theirs), tmp_path / "x") > 0
    expected = delta(tmp_path / "x" / "out" / "both")
    error = np.linalg.norm(delta(tmp_path / "out") - expected) / np.linalg.norm(expected)
    assert error < 2e-3  # ours is stored as float16


@pytest.mark.parametrize("what", list(merge_speed.MERGEKIT))
def test_mergekit_runs(case: Case, tmp_path: Path, what: str) -> None:
    pytest.importorskip("mergekit")
    assert run_mergekit(replace(case, who="mergekit", what=what), tmp_path) >= 0


@pytest.mark.parametrize("what", list(merge_speed.OURS))
def test_ours_run(case: Case, tmp_path: Path, what: str) -> None:
    run_ours(replace(case, what=what), tmp_path)
    assert np.isfinite(delta(tmp_path / "out")).all()


def test_figures_are_kept(case: Case) -> None:
    found = merge_speed.measure(case)
    assert found.cpu_s > 0
    assert 0 < found.idle_mb <= found.peak_mb
    assert merge_speed.measure(case) == found
