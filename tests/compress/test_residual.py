"""Check compressing fully fine-tuned models against their base."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compress import Compeft, compress_adapter, compress_residual, decompress, inspect
from compress.compeft import Scope
from compress.errors import BaseMismatchError, PickleRefusedError, SourceError
from tests.compress.closed_form import published

Array = NDArray[Any]
Models = Callable[..., tuple[Path, Path]]


def base_tensors(dtype: Any = np.float32) -> dict[str, Array]:
    """Make a small model."""
    rng = np.random.default_rng(0)
    return {
        "embed.weight": rng.normal(size=(20, 16)).astype(dtype),
        "layers.0.q.weight": rng.normal(size=(16, 16)).astype(dtype),
        "layers.1.q.weight": rng.normal(size=(16, 16)).astype(dtype),
        "norm.weight": np.ones(16, dtype),
    }


def tuned(base: dict[str, Array], step: float = 0.01) -> dict[str, Array]:
    """Move every weight a little."""
    rng = np.random.default_rng(1)
    return {
        key: (value.astype(np.float64) + step * rng.normal(size=value.shape)).astype(value.dtype)
        for key, value in base.items()
    }


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """Give a function that writes a base and a fine-tuned model."""

    def make(base: dict[str, Array], model: dict[str, Array]) -> tuple[Path, Path]:
        for name, tensors in (("base", base), ("model", model)):
            (tmp_path / name).mkdir()
            save_file(tensors, tmp_path / name / "model.safetensors", {"format": "pt"})
            (tmp_path / name / "config.json").write_text("{}")
        return tmp_path / "model", tmp_path / "base"

    return make


def check(
    model: dict[str, Array], base: dict[str, Array], back: dict[str, Array], density: float
) -> None:
    """Compare with base + the published task vector."""
    vectors = {key: model[key].astype(np.float32) - base[key].astype(np.float32) for key in base}
    signs, scale = published(vectors, density)
    for key, sign in signs.items():
        change = sign.astype(np.float32) * np.float32(scale)
        expected = (base[key].astype(np.float32) + change).astype(model[key].dtype)
        assert back[key].dtype == model[key].dtype
        np.testing.assert_array_equal(back[key], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_a_model_comes_back_as_published(
    dtype: Any, density: float, models: Models, tmp_path: Path
) -> None:
    base = base_tensors(dtype)
    model = tuned(base)
    report = compress_residual(*models(base, model), tmp_path / "x.tern", method=Compeft(density))
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=tmp_path / "base")
    check(model, base, load_file(tmp_path / "back.safetensors"), density)
    assert report.delta_error is None
    assert report.vector_error is not None
    assert report.parameters == sum(value.size for value in base.values())


def test_float64_stays_float64(models: Models, tmp_path: Path) -> None:
    base = base_tensors(np.float64)
    model = tuned(base)
    compress_residual(*models(base, model), tmp_path / "x.tern", method=Compeft(1.0))
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=tmp_path / "base")
    back = load_file(tmp_path / "back.safetensors")
    for key in base:
        assert back[key].dtype == np.float64
        np.testing.assert_array_equal(
            np.sign(back[key] - base[key]), np.sign(model[key] - base[key])
        )


def test_a_folder_comes_back_with_its_config(models: Models, tmp_path: Path) -> None:
    base = base_tensors()
    model, base_path = models(base, tuned(base))
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    compress_residual(model, base_path, tmp_path / "small")
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "config.json",
        "model.tern.safetensors",
    ]
    decompress(tmp_path / "small", tmp_path / "back", base=base_path)
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_shards_are_read(tmp_path: Path) -> None:
    base = base_tensors()
    model = tuned(base)
    names = sorted(base)
    for folder, tensors in (("base", base), ("model", model)):
        (tmp_path / folder).mkdir()
        weight_map: dict[str, str] = {}
        for number, part in enumerate((names[:2], names[2:])):
            file = f"model-{number}.safetensors"
            save_file({name: tensors[name] for name in part}, tmp_path / folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = json.dumps({"weight_map": weight_map})
        (tmp_path / folder / "model.safetensors.index.json").write_text(index)
    compress_residual(tmp_path / "model", tmp_path / "base", tmp_path / "small")
    assert [p.name for p in (tmp_path / "small").iterdir()] == ["model.tern.safetensors"]
    decompress(tmp_path / "small", tmp_path / "back", base=tmp_path / "base")
    check(model, base, load_file(tmp_path / "back" / "model.safetensors"), 0.2)


def test_tensors_without_a_partner_are_kept_exactly(models: Models, tmp_path: Path) -> None:
    base = base_tensors()
    model = tuned(base)
    model["head.weight"] = np.random.default_rng(5).normal(size=(3, 16)).astype(np.float32)
    model["embed.weight"] = np.random.default_rng(6).normal(size=(21, 16)).astype(np.float32)
    model["steps"] = np.array([7], np.int64)
    report = compress_residual(*models(base, model), tmp_path / "x.tern")
    assert report.exact_tensors == ("embed.weight", "head.weight", "steps")
    assert any("no partner" in warning for warning in report.warnings)
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=tmp_path / "base")
    back = load_file(tmp_path / "back.safetensors")
    for key in report.exact_tensors:
        np.testing.assert_array_equal(back[key], model[key])


def test_an_unrelated_base_is_refused(models: Models, tmp_path: Path) -> None:
    model, base = models({"other": np.ones(3, np.float32)}, base_tensors())
    with pytest.raises(BaseMismatchError):
        compress_residual(model, base, tmp_path / "x.tern")
    assert not (tmp_path / "x.tern").exists()


def test_decoding_needs_the_same_base(models: Models, tmp_path: Path) -> None:
    base = base_tensors()
    compress_residual(*models(base, tuned(base)), tmp_path / "x.tern")
    with pytest.raises(BaseMismatchError, match="base model"):
        decompress(tmp_path / "x.tern", tmp_path / "back")
    changed = {**base, "norm.weight": base["norm.weight"] + 1}
    save_file(changed, tmp_path / "changed.safetensors", {"format": "pt"})
    with pytest.raises(BaseMismatchError, match="not the base"):
        decompress(tmp_path / "x.tern", tmp_path / "back", base=tmp_path / "changed.safetensors")
    del changed["norm.weight"]
    save_file(changed, tmp_path / "less.safetensors")
    with pytest.raises(BaseMismatchError, match="lacks"):
        decompress(tmp_path / "x.tern", tmp_path / "back", base=tmp_path / "less.safetensors")
    assert not (tmp_path / "back").exists()


def test_a_residual_is_inspected_without_its_base(models: Models, tmp_path: Path) -> None:
    base = base_tensors()
    report = compress_residual(*models(base, tuned(base)), tmp_path / "x.tern")
    found = inspect(tmp_path / "x.tern")
    assert found.encoding == "tern"
    assert found.parameters == report.parameters
    assert found.nonzero == report.nonzero
    assert [row.name for row in found.modules] == ["embed.weight", *sorted(base)[1:]]
    assert found.properties["base_sha256"]
    assert found.warnings == ()
    assert "vector_error" in inspect(tmp_path / "x.tern", against=tmp_path / "model").warnings[0]
    assert float(found.properties["vector_error"]) == pytest.approx(report.vector_error, rel=1e-3)


def test_an_erased_tensor_is_named(models: Models, tmp_path: Path) -> None:
    base = base_tensors()
    model = tuned(base)
    model["norm.weight"] = base["norm.weight"] + np.float32(1e-6)
    report = compress_residual(*models(base, model), tmp_path / "x.tern")
    assert report.erased == ("norm.weight",)
    again = compress_residual(
        tmp_path / "model",
        tmp_path / "base",
        tmp_path / "y.tern",
        method=Compeft(scope=Scope.TENSOR),
    )
    assert again.erased == ()


def test_pickles_and_empty_folders_are_refused(tmp_path: Path, models: Models) -> None:
    base = base_tensors()
    model, _ = models(base, tuned(base))
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(PickleRefusedError):
        compress_residual(model, tmp_path / "pickles", tmp_path / "x.tern")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        compress_residual(tmp_path / "empty", model, tmp_path / "x.tern")


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Compress and restore 128 MiB of weights in less memory than they take."""
    rng = np.random.default_rng(0)
    for name, step in (("base", 0.0), ("model", 0.01)):
        values = rng.standard_normal((1 << 13, 1 << 12), np.float32)
        save_file({"w": values * np.float32(1 + step)}, tmp_path / f"{name}.safetensors")
        del values
    tracemalloc.start()
    paths = [tmp_path / f"{name}.safetensors" for name in ("model", "base")]
    compress_residual(paths[0], paths[1], tmp_path / "x.tern", method=Compeft(0.05))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=paths[1])
    peak_back = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert peak_back < 100 << 20


def test_the_real_tiny_model(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "models" / "stories260k-llama"
    base = load_file(source / "model.safetensors")
    model = tuned(base, 0.002)
    save_file(model, tmp_path / "model.safetensors", {"format": "pt"})
    report = compress_residual(tmp_path / "model.safetensors", source, tmp_path / "x.tern")
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=source)
    check(model, base, load_file(tmp_path / "back.safetensors"), 0.2)
    assert report.size.lossy <= 1.02 * report.shannon_bytes + 1024


def test_lora_names_in_a_full_model_are_plain_tensors(models: Models, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shapes = {"m.q.lora_A.weight": (4, 16), "m.q.lora_B.weight": (16, 4), "m.q.weight": (16, 16)}
    base = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    model = tuned(base)
    report = compress_residual(*models(base, model), tmp_path / "x.tern", method=Compeft(0.2))
    assert [row.name for row in report.modules] == sorted(shapes)
    assert report.delta_error is None
    assert report.vector_error is not None
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors", base=tmp_path / "base")
    check(model, base, load_file(tmp_path / "back.safetensors"), 0.2)
    assert len(inspect(tmp_path / "x.tern").modules) == 3


def test_differences_need_no_base(tmp_path: Path) -> None:
    base = base_tensors()
    moved = tuned(base)
    differences = {key: moved[key] - base[key] for key in base}
    differences["m.lora_A.weight"] = differences.pop("layers.0.q.weight")
    (tmp_path / "residual" / "notes").mkdir(parents=True)
    save_file({**differences, "steps": np.array([7])}, tmp_path / "residual" / "model.safetensors")
    (tmp_path / "residual" / "notes" / "a.md").write_text("kept")
    report = compress_adapter(
        tmp_path / "residual", tmp_path / "small", method=Compeft(0.2), differences=True
    )
    assert report.treatment == "fine-tuned minus base"
    assert report.exact_tensors == ("steps",)
    decompress(tmp_path / "small", tmp_path / "back")
    assert (tmp_path / "back" / "notes" / "a.md").read_text() == "kept"
    signs, scale = published(differences, 0.2)
    back = load_file(tmp_path / "back" / "model.safetensors")
    for key, sign in signs.items():
        np.testing.assert_array_equal(back[key], sign.astype(np.float32) * np.float32(scale))
    seen = inspect(tmp_path / "small", against=tmp_path / "residual")
    assert {row.name for row in seen.modules} == set(differences)
    rows = {row.name: row.error for row in report.modules}
    assert {row.name: row.error for row in seen.modules} == pytest.approx(rows, rel=1e-4)


def test_differences_may_lie_in_shards(tmp_path: Path) -> None:
    base = base_tensors()
    homes = {}
    for at, name in enumerate(sorted(base), 1):
        homes[name] = f"model-{at:05}-of-{len(base):05}.safetensors"
        save_file({name: base[name]}, tmp_path / homes[name])
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    report = compress_adapter(
        tmp_path, tmp_path / "x" / "y.tern", method=Compeft(), differences=True
    )
    assert report.parameters == sum(value.size for value in base.values())
    decompress(tmp_path / "x" / "y.tern", tmp_path / "x" / "back")
    assert set(load_file(tmp_path / "x" / "back" / "model.safetensors")) == set(base)
