"""Check what a hub learns from a `.tern` that is pushed, and that a damaged one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from api.workflows.tern_content import read_tern
from compress import (
    Compeft,
    Heads,
    Lossless,
    Rd,
    TernError,
    compress_adapter,
    compress_residual,
)
from registry.validation.adapter_summary import Kind
from registry.validation.file_sources import BytesFile, LocalFile
from tests.safetensors_files import Array, good_file, lora

METHOD = Compeft(density=0.5)


@pytest.fixture
def tern(examples: Path, tmp_path: Path) -> Path:
    """Give a lone `.tern` of a real expert."""
    compress_adapter(examples / "sst2", tmp_path / "sst2.tern", method=METHOD)
    return tmp_path / "sst2.tern"


def test_it_carries_config_parameters_and_shapes(tern: Path, examples: Path) -> None:
    content = read_tern(LocalFile(tern))
    assert content.config == (examples / "sst2" / "adapter_config.json").read_bytes()
    assert content.parameters == {"F32": 110_592 + 770}
    assert len(content.module_shapes) == 18
    assert set(content.module_shapes.values()) == {(384, 384)}
    assert content.compressible
    assert content.kept_exactly.endswith("classifier.weight (2 tensors, 3,080 bytes)")


def test_a_blob_and_a_file_say_the_same(tern: Path) -> None:
    assert read_tern(BytesFile(tern.read_bytes())) == read_tern(LocalFile(tern))


def test_a_residual_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("base", "tuned"):
        weights = {"layer.weight": rng.standard_normal((8, 8), dtype=np.float32)}
        (tmp_path / f"{name}.safetensors").write_bytes(good_file(weights))
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    compress_residual(tuned, base, tmp_path / "r.tern", method=METHOD)
    assert read_tern(LocalFile(tmp_path / "r.tern")).kind == Kind.FULL_RESIDUAL


def test_names_like_loras_in_a_model_are_no_lora(tmp_path: Path) -> None:
    weights = {"layer.lora_A.weight": np.ones((2, 8), np.float32)}
    for name in ("base", "tuned"):
        (tmp_path / f"{name}.safetensors").write_bytes(good_file(weights))
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    compress_residual(tuned, base, tmp_path / "r.tern", method=METHOD)
    content = read_tern(LocalFile(tmp_path / "r.tern"))
    assert (content.kind, content.module_shapes) == (Kind.FULL_RESIDUAL, {})


def test_a_sparse_delta_says_so(tmp_path: Path) -> None:
    pairs: dict[str, Array] = {"w.indices": np.arange(9), "w.values": np.ones(9, np.float32)}
    (tmp_path / "d.safetensors").write_bytes(good_file(pairs))
    compress_adapter(tmp_path / "d.safetensors", tmp_path / "d.tern", method=METHOD)
    content = read_tern(LocalFile(tmp_path / "d.tern"))
    assert (content.kind, content.compressible) == (Kind.SPARSE_DELTA, True)
    assert content.kept_exactly == "w.indices (1 tensors, 72 bytes)"


def test_what_has_no_task_vector_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(good_file({"w": np.ones(9, np.float32)}))
    compress_adapter(tmp_path / "m.safetensors", tmp_path / "m.tern", method=METHOD)
    content = read_tern(LocalFile(tmp_path / "m.tern"))
    assert not content.compressible
    assert content.kept_exactly.startswith("all 1 tensors (36 bytes)")


@pytest.mark.parametrize("at", [0.05, 0.5, 0.99])
def test_a_damaged_one_is_refused(tern: Path, at: float) -> None:
    data = bytearray(tern.read_bytes())
    data[int(at * len(data))] ^= 1
    with pytest.raises(TernError):
        read_tern(BytesFile(bytes(data)))


def test_other_safetensors_are_refused() -> None:
    with pytest.raises(TernError):
        read_tern(BytesFile(good_file(lora(["q"]))))


def test_layers_and_heads_are_described(examples: Path, tmp_path: Path) -> None:
    small = tmp_path / "rd.tern"
    compress_adapter(examples / "sst2", small, method=Rd(bits=0.5))
    content = read_tern(LocalFile(small))
    assert content.parameters == {"F32": 110_592 + 770}
    assert set(content.module_shapes.values()) == {(384, 384)}
    assert len(content.module_shapes) == 18
    assert content.compressible
    assert content.kept_exactly.endswith("classifier.weight (2 tensors, 3,080 bytes)")


def test_a_rounded_head_is_not_kept_exactly(tmp_path: Path) -> None:
    weights = lora(["q", "v"], seed=3)
    weights["base_model.model.score.weight"] = np.ones((64, 64), np.float32)
    (tmp_path / "w.safetensors").write_bytes(good_file(weights))
    method = Rd(max_error=0.5, heads=Heads.INT4)
    compress_adapter(tmp_path / "w.safetensors", tmp_path / "w.tern", method=method)
    content = read_tern(LocalFile(tmp_path / "w.tern"))
    assert (content.kind, content.compressible) == (Kind.LORA_RAW, True)
    assert content.kept_exactly == ""


def test_lossless_keeps_everything_and_knows_the_shapes(examples: Path, tmp_path: Path) -> None:
    compress_adapter(examples / "sst2", tmp_path / "l.tern", method=Lossless())
    content = read_tern(LocalFile(tmp_path / "l.tern"))
    assert not content.compressible
    assert content.kept_exactly.endswith("the method lossless gives every bit back")
    assert len(content.module_shapes) == 18


@pytest.mark.parametrize("method", [Rd(bits=0.5), Lossless()])
@pytest.mark.parametrize("at", [0.05, 0.5, 0.99])
def test_a_damaged_one_of_every_method_is_refused(
    examples: Path, tmp_path: Path, method: Rd | Lossless, at: float
) -> None:
    compress_adapter(examples / "sst2", tmp_path / "x.tern", method=method)
    data = bytearray((tmp_path / "x.tern").read_bytes())
    data[int(at * len(data))] ^= 1
    with pytest.raises(TernError):
        read_tern(BytesFile(bytes(data)))
