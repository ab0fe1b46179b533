"""Check compressing and decompressing whole adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from compress import Compeft, Scope, compress_adapter, decompress
from compress.container_read import TernFile
from compress.errors import DestinationError, NonFiniteError, OptionError, SourceError
from compress.tensor_file import TensorFile, TensorInfo, TensorWriter
from tests.compress.closed_form import per_group, published, same_values, stored

Make = Callable[..., Path]
Array = NDArray[Any]


def random_lora(size: int = 24, dtype: Any = np.float32) -> dict[str, Array]:
    """Make a LoRA with a head."""
    rng = np.random.default_rng(1)
    return {
        "base_model.model.l.0.q.lora_A.weight": rng.normal(size=(4, size)).astype(dtype),
        "base_model.model.l.0.q.lora_B.weight": (0.3 * rng.normal(size=(size, 4))).astype(dtype),
        "base_model.model.score.weight": rng.normal(size=(3, size)).astype(np.float32),
    }


def task_vector(tensors: dict[str, Array]) -> dict[str, Array]:
    """Take the LoRA factors."""
    return {key: value for key, value in tensors.items() if "lora_" in key}


def check_back(original: dict[str, Array], back: dict[str, Array], method: Compeft) -> None:
    """Compare decoded tensors with the published steps."""
    signs, scale = published(task_vector(original), method.density, method.alpha)
    assert set(back) == set(original)
    for key, value in original.items():
        if key in signs:
            assert same_values(back[key], stored(signs[key], scale, value.dtype))
        else:
            assert back[key].tobytes() == value.tobytes()


@pytest.mark.parametrize("destination", ["one.tern", "folder"])
@pytest.mark.parametrize("density", [0.05, 0.2, 1.0])
def test_an_adapter_comes_back_as_published(
    destination: str, density: float, make_adapter: Make, tmp_path: Path
) -> None:
    tensors = random_lora()
    folder = make_adapter(tensors)
    (folder / "README.md").write_text("# card")
    method = Compeft(density)
    compress_adapter(folder, tmp_path / destination, method=method)
    decompress(tmp_path / destination, tmp_path / "back")
    check_back(tensors, load_file(tmp_path / "back" / "adapter_model.safetensors"), method)
    config = (tmp_path / "back" / "adapter_config.json").read_bytes()
    assert config == (folder / "adapter_config.json").read_bytes()
    assert (tmp_path / "back" / "README.md").exists() == (destination == "folder")


def test_a_folder_keeps_everything_else(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    (folder / "README.md").write_bytes(b"# card\r\n")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    report = compress_adapter(folder, tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.tern.safetensors",
        "tokenizer.json",
    ]
    assert (tmp_path / "small" / "README.md").read_bytes() == b"# card\r\n"
    assert any("optimizer.pt" in warning for warning in report.warnings)


def test_decoded_files_are_laid_out_as_peft_writes_them(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    compress_adapter(folder, tmp_path / "x.tern")
    decompress(tmp_path / "x.tern", tmp_path / "back")
    with (
        TensorFile(tmp_path / "back" / "adapter_model.safetensors") as ours,
        TensorFile(folder / "adapter_model.safetensors") as theirs,
    ):
        assert ours.tensors == theirs.tensors
        assert ours.metadata == theirs.metadata == {"format": "pt"}


def test_decoding_again_gives_the_same_file(make_adapter: Make, tmp_path: Path) -> None:
    compress_adapter(make_adapter(), tmp_path / "x.tern")
    for name in ("1", "2"):
        decompress(tmp_path / "x.tern", tmp_path / name)
    first, second = (tmp_path / n / "adapter_model.safetensors" for n in ("1", "2"))
    assert first.read_bytes() == second.read_bytes()


def test_compressing_is_deterministic(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    for name in ("1.tern", "2.tern"):
        compress_adapter(folder, tmp_path / name, method=Compeft(0.1, scope=Scope.TENSOR))
    assert (tmp_path / "1.tern").read_bytes() == (tmp_path / "2.tern").read_bytes()


def test_the_order_of_the_input_does_not_matter(make_raw: Make, tmp_path: Path) -> None:
    tensors = task_vector(random_lora())
    for name, keys in (("1", sorted(tensors)), ("2", sorted(tensors, reverse=True))):
        infos = [TensorInfo(key, "F32", tensors[key].shape) for key in keys]
        offset = 0
        header: dict[str, Any] = {}
        for info in infos:
            header[info.name] = {
                "dtype": "F32",
                "shape": list(info.shape),
                "data_offsets": [offset, offset + info.size_bytes],
            }
            offset += info.size_bytes
        text = json.dumps(header).encode()
        data = b"".join(tensors[key].tobytes() for key in keys)
        path = tmp_path / name / "lora.safetensors"
        path.parent.mkdir()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        compress_adapter(path, tmp_path / f"{name}.tern")
        decompress(tmp_path / f"{name}.tern", tmp_path / f"{name}.safetensors")
    left, right = (load_file(tmp_path / f"{name}.safetensors") for name in ("1", "2"))
    assert {key: value.tobytes() for key, value in left.items()} == {
        key: value.tobytes() for key, value in right.items()
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("exact_count", [False, True])
def test_types_and_scopes(
    dtype: Any, scope: Scope, exact_count: bool, make_adapter: Make, tmp_path: Path
) -> None:
    tensors = random_lora(dtype=dtype)
    method = Compeft(0.3, 2.0, scope, exact_count)
    compress_adapter(make_adapter(tensors), tmp_path / "x.tern", method=method)
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    groups: dict[Scope, Callable[[str], str]] = {
        Scope.GLOBAL: lambda _key: "all",
        Scope.FACTOR: lambda key: key.split(".")[-2],
        Scope.TENSOR: lambda key: key,
    }
    expected = per_group(task_vector(tensors), groups[scope], 0.3, 2.0)
    for key, (signs, scale) in expected.items():
        assert back[key].dtype == dtype
        np.testing.assert_allclose(
            np.abs(back[key][back[key] != 0]).astype(float), float(dtype(scale)), rtol=1e-12
        )
        if not exact_count:
            np.testing.assert_array_equal(np.sign(back[key]), signs)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
    ],
)
def test_narrow_types(name: str, dtype: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {f"q.lora_{f}.weight": rng.normal(size=(8, 8)).astype(dtype) for f in "AB"}
    path = tmp_path / "lora.safetensors"
    infos = [TensorInfo(key, name, (8, 8)) for key in values]
    with TensorWriter(path, infos, metadata={"format": "pt"}) as writer:
        for key, value in values.items():
            writer.write(key, value.tobytes())
    compress_adapter(path, tmp_path / "x.tern", method=Compeft(0.25))
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors")
    signs, scale = published(values, 0.25)
    with TensorFile(tmp_path / "back.safetensors") as file:
        for key in values:
            assert file.tensors[key].dtype == name
            expected = stored(signs[key], scale, dtype)
            assert same_values(file.read(key).reshape(8, 8), expected)


def test_ia3_is_taken_around_one(make_adapter: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tensors = {
        f"base_model.model.l.{i}.k.ia3_l": (1 + 0.1 * rng.normal(size=(16, 1))).astype(np.float32)
        for i in range(3)
    }
    folder = make_adapter(tensors, config={"peft_type": "IA3"})
    report = compress_adapter(folder, tmp_path / "x.tern", method=Compeft(0.5))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    signs, scale = published({key: value - np.float32(1) for key, value in tensors.items()}, 0.5)
    for key in tensors:
        np.testing.assert_array_equal(back[key], (1 + signs[key] * scale).astype(np.float32))
    assert report.delta_error is None
    assert report.vector_error is not None
    assert 0 < report.vector_error < 1


def test_a_raw_file_keeps_its_name_and_metadata(make_raw: Make, tmp_path: Path) -> None:
    tensors = {
        "unet:0:down": np.random.default_rng(0).normal(size=(1, 40)).astype(np.float32),
        "unet:0:up": np.random.default_rng(1).normal(size=(30, 1)).astype(np.float32),
        "<s1>": np.arange(5, dtype=np.float32),
    }
    path = make_raw(tensors, name="disney.safetensors", metadata={"unet:0:rank": "1", "<s1>": "x"})
    compress_adapter(path, tmp_path / "x.tern")
    decompress(tmp_path / "x.tern", tmp_path / "back")
    assert [p.name for p in (tmp_path / "back").iterdir()] == ["disney.safetensors"]
    with safe_open(tmp_path / "back" / "disney.safetensors", "np") as file:
        assert file.metadata() == {"unet:0:rank": "1", "<s1>": "x"}
        np.testing.assert_array_equal(file.get_tensor("<s1>"), tensors["<s1>"])


def test_what_has_no_task_vector_is_kept_exactly(make_adapter: Make, tmp_path: Path) -> None:
    tensors = {
        "prompt_embeddings": np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    }
    folder = make_adapter(tensors, config={"peft_type": "PROMPT_TUNING"})
    report = compress_adapter(folder, tmp_path / "x.tern")
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    np.testing.assert_array_equal(back["prompt_embeddings"], tensors["prompt_embeddings"])
    assert report.parameters == 0
    assert report.bits_per_param == 0
    assert report.exact_tensors == ("prompt_embeddings",)
    assert any("kept exactly" in warning for warning in report.warnings)


def test_erased_modules_are_reported_loudly(make_adapter: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "m.q.lora_A.weight": rng.uniform(-1, 1, (16, 256)).astype(np.float32) / 16,
        "m.q.lora_B.weight": (0.001 * rng.normal(size=(256, 16))).astype(np.float32),
        "m.v.lora_A.weight": (0.1 * rng.normal(size=(16, 256))).astype(np.float32),
        "m.v.lora_B.weight": (0.1 * rng.normal(size=(256, 16))).astype(np.float32),
    }
    report = compress_adapter(make_adapter(tensors), tmp_path / "x.tern", method=Compeft(0.05))
    assert report.erased == ("m.q",)
    rows = {row.name: row for row in report.modules}
    assert rows["m.q"].erased
    assert rows["m.q"].error == 1.0
    assert rows["m.q"].density_b == 0
    assert not rows["m.v"].erased
    assert any("erased" in warning and "m.q" in warning for warning in report.warnings)
    with TernFile(tmp_path / "x.tern") as tern:
        assert tern.metadata["erased"] == "1"


def test_an_untrained_adapter_is_reported_not_refused(make_adapter: Make, tmp_path: Path) -> None:
    tensors = random_lora()
    tensors["base_model.model.l.0.q.lora_B.weight"][:] = 0
    report = compress_adapter(make_adapter(tensors), tmp_path / "x.tern", method=Compeft(0.5))
    assert report.erased == ()
    assert any("zero factor" in warning for warning in report.warnings)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("density", [0.01, 0.5, 1.0])
def test_tiny_vectors_do_not_crash(
    size: int, density: float, make_raw: Make, tmp_path: Path
) -> None:
    path = make_raw({"q.lora_A.weight": np.full(size, 0.5, np.float32)})
    compress_adapter(path, tmp_path / "x.tern", method=Compeft(density))
    decompress(tmp_path / "x.tern", tmp_path / "b.safetensors")
    np.testing.assert_array_equal(
        load_file(tmp_path / "b.safetensors")["q.lora_A.weight"], np.full(size, 0.5, np.float32)
    )


def test_a_scale_beyond_the_type_is_refused(make_raw: Make, tmp_path: Path) -> None:
    values = np.array([[60000, -60000, 1]], np.float16)
    path = make_raw({"q.lora_A.weight": values})
    with pytest.raises(OptionError, match="alpha"):
        compress_adapter(path, tmp_path / "x.tern", method=Compeft(0.5, alpha=10))
    assert not (tmp_path / "x.tern").exists()


def test_nothing_is_left_behind_when_it_fails(make_adapter: Make, tmp_path: Path) -> None:
    tensors = random_lora()
    tensors["base_model.model.l.0.q.lora_B.weight"][2, 1] = np.inf
    folder = make_adapter(tensors)
    for destination in ("x.tern", "small"):
        with pytest.raises(NonFiniteError):
            compress_adapter(folder, tmp_path / destination)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_taken_destination_is_refused(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(DestinationError):
        compress_adapter(folder, tmp_path / "taken")
    compress_adapter(folder, tmp_path / "x.tern")
    with pytest.raises(DestinationError):
        decompress(tmp_path / "x.tern", tmp_path / "taken")
    with pytest.raises(DestinationError, match="folder"):
        decompress(tmp_path / "x.tern", tmp_path / "x.safetensors")
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_a_compressed_file_is_not_compressed_again(make_adapter: Make, tmp_path: Path) -> None:
    compress_adapter(make_adapter(), tmp_path / "small")
    with pytest.raises(SourceError):
        compress_adapter(tmp_path / "small", tmp_path / "smaller.tern")


def test_progress_rises_to_the_end(make_adapter: Make, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    compress_adapter(
        make_adapter(), tmp_path / "x.tern", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_report_adds_up(make_adapter: Make, tmp_path: Path) -> None:
    tensors = random_lora()
    report = compress_adapter(make_adapter(tensors), tmp_path / "x.tern", method=Compeft(0.1))
    path = tmp_path / "x.tern"
    vectors = task_vector(tensors)
    assert report.size.total == path.stat().st_size
    assert report.parameters == sum(value.size for value in vectors.values())
    assert report.baseline_dtype == "F32"
    assert report.lossy_source_bytes == 4 * report.parameters
    assert report.ratio == report.source_bytes / path.stat().st_size
    assert report.nonzero == report.groups[0].kept
    signs, scale = published(vectors, 0.1)
    assert report.groups[0].scale == pytest.approx(scale)
    a, b = (tensors[f"base_model.model.l.0.q.lora_{f}.weight"].astype(float) for f in "AB")
    a2, b2 = (
        stored(signs[f"base_model.model.l.0.q.lora_{f}.weight"], scale, np.float32).astype(float)
        for f in "AB"
    )
    expected = np.linalg.norm(b2 @ a2 - b @ a) / np.linalg.norm(b @ a)
    assert report.delta_error == pytest.approx(expected)
    assert report.modules[0].norm == pytest.approx(2 * np.linalg.norm(b @ a))
    as_json = json.loads(json.dumps(report.to_json()))
    assert as_json["size"]["lossy"] == report.size.lossy
    assert as_json["ratio"] == report.ratio
