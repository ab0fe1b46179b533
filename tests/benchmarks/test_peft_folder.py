"""Check that a decoded adapter is the one that was measured, everything else untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.baselines import bitdelta, compeft, int4, int8, loraquant, measure, stc, svd
from benchmarks.baselines.integers import Integers
from benchmarks.baselines.interface import Approximation, Method
from benchmarks.baselines.low_rank import TruncatedSvd
from benchmarks.baselines.mixed_bits import LoraQuant
from benchmarks.baselines.peft_folder import read_adapter, write_adapter
from benchmarks.baselines.signs import BitDelta
from benchmarks.baselines.sparse_ternary import Stc
from benchmarks.baselines.tern_files import BestCompeft
from compress import Scope
from compress.errors import DestinationError, SourceError
from tests.benchmarks.conftest import MakeFolder, dense_error

FUNCTIONS: dict[str, tuple[Callable[[Path, Path], float], Method]] = {
    "compeft": (lambda s, d: compeft(s, d, density=0.3), BestCompeft(0.3)),
    "stc": (lambda s, d: stc(s, d, density=0.3, scope=Scope.TENSOR), Stc(0.3, Scope.TENSOR)),
    "bitdelta": (bitdelta, BitDelta()),
    "int8": (int8, Integers(8)),
    "int4": (int4, Integers(4, 64)),
    "svd": (lambda s, d: svd(s, d, rank=2), TruncatedSvd(2)),
    "loraquant": (lambda s, d: loraquant(s, d, bits=3), LoraQuant(3, 0.8, refined=True)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_folder_holds_what_was_measured(
    name: str, make_folder: MakeFolder, tmp_path: Path
) -> None:
    function, method = FUNCTIONS[name]
    folder = make_folder(more={"base_model.model.score.weight": np.ones((3, 9), np.float16)})
    bits = function(folder, tmp_path / "out")
    point = measure(method, read_adapter(folder))
    assert bits == point.bits_per_param
    before, after = read_adapter(folder), read_adapter(tmp_path / "out")
    assert dense_error(before.modules, after.modules) == pytest.approx(point.error, rel=1e-6)


def test_everything_else_is_as_it_was(make_folder: MakeFolder, tmp_path: Path) -> None:
    head = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float16)
    folder = make_folder(more={"base_model.model.score.weight": head})
    (folder / "README.md").write_text("about it")
    svd(folder, tmp_path / "out", rank=1)
    before = load_file(folder / "adapter_model.safetensors")
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    np.testing.assert_array_equal(after["base_model.model.score.weight"], head)
    for name in ("adapter_config.json", "README.md"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_a_lower_rank_is_filled_up_with_zeros(make_folder: MakeFolder, tmp_path: Path) -> None:
    svd(make_folder(), tmp_path / "out", rank=1)
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    a, b = (weights[f"base_model.model.q.lora_{side}.weight"] for side in "AB")
    assert a[0].any()
    assert b[:, 0].any()
    assert not a[1:].any()
    assert not b[:, 1:].any()


def test_a_module_that_was_dropped_is_zero(make_folder: MakeFolder, tmp_path: Path) -> None:
    write_adapter(make_folder(), tmp_path / "out", approximation=Approximation({}, 0))
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert not any(values.any() for values in weights.values())


def test_factors_of_a_convolution_keep_their_shape(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "conv.lora_down.weight": rng.normal(size=(2, 5, 3, 3)).astype(np.float32),
        "conv.lora_up.weight": rng.normal(size=(7, 2, 1, 1)).astype(np.float32),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    int8(tmp_path / "lora.safetensors", tmp_path / "out")
    after = load_file(tmp_path / "out" / "lora.safetensors")
    for name, before in tensors.items():
        assert after[name].shape == before.shape
        np.testing.assert_allclose(after[name], before, atol=0.02)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"base_model.model.q.lora_E": np.ones((4, 1), np.float32)}, "AdaLoRA"),
        (
            {
                "base_model.model.w.lora_A.weight": np.full((2, 3), np.nan, np.float32),
                "base_model.model.w.lora_B.weight": np.ones((3, 2), np.float32),
            },
            "NaN",
        ),
    ],
)
def test_what_the_baselines_do_not_know_is_refused(
    more: dict[str, np.ndarray], reason: str, make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder(more=more)
    with pytest.raises(SourceError, match=reason):
        int8(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_lora_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(SourceError, match="no LoRA module"):
        read_adapter(tmp_path / "x.safetensors")


def test_a_taken_destination_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder()
    with pytest.raises(DestinationError, match="taken"):
        int8(folder, folder)
