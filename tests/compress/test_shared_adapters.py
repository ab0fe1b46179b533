"""Check real adapters: bit for bit the published recipe, within the size that entropy allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from compress import Compeft, Scope, compress_adapter, decompress, inspect
from compress.errors import PickleRefusedError, SourceError
from tests.compress.closed_form import per_group, published, same_values, stored

Array = NDArray[Any]
ADAPTERS = [
    "adapters/distilbert-selfheal-raghava",
    "adapters/gpt2-cls-deepbiolab",
    "adapters/gpt2-gurvineet-best",
    "adapters/gpt2-gurvineet-ckptbest",
    "adapters/gpt2-gurvineet-epoch1",
    "adapters/gpt2-gurvineet-epoch2",
    "adapters/gpt2-gurvineet-epoch3",
    "adapters/roberta-agnews-aguleon-ckpt500",
    "adapters/sd-disney-cloneofsimo",
    "adapters/sd15-catundchat",
    "experts/banking77",
    "experts/clinc150",
    "experts/mpqa",
    "experts/mr-rt-polarity",
    "experts/sst2",
    "experts/sst2-r16all",
    "experts/subj",
    "experts/trec6",
    "experts/trec6-lowlr",
    "experts/tweeteval-emotion",
    "experts/tweeteval-hate",
]
DENSITIES = [0.05, 0.1, 0.2, 0.3, 0.5]


def is_factor(key: str) -> bool:
    """Say whether a key of these adapters is a LoRA factor."""
    return ".lora_" in key or "_lora." in key or key.endswith((":down", ":up"))


def tensors_of(folder: Path) -> tuple[str, dict[str, Array]]:
    """Load the only safetensors file of a folder, with its name."""
    (path,) = folder.glob("*.safetensors")
    return path.name, load_file(path)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("density", DENSITIES)
def test_decoding_gives_the_published_recipe(
    name: str, density: float, test_data: Path, tmp_path: Path
) -> None:
    source = test_data / name
    file, original = tensors_of(source)
    report = compress_adapter(source, tmp_path / "x.tern", method=Compeft(density, 2.0))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / file)
    signs, scale = published({k: v for k, v in original.items() if is_factor(k)}, density, 2.0)
    assert set(back) == set(original)
    assert set(report.exact_tensors) == set(original) - set(signs)
    for key, value in original.items():
        if key in signs:
            assert same_values(back[key], stored(signs[key], scale, value.dtype)), key
        else:
            assert back[key].tobytes() == value.tobytes(), key
    assert report.size.lossy <= 1.02 * report.shannon_bytes + 1024
    assert report.size.total == (tmp_path / "x.tern").stat().st_size
    flat = np.concatenate([sign.ravel() for sign in signs.values()])
    shares = np.array([(flat == trit).mean() for trit in (-1, 0, 1)])
    bound = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * flat.size / 8
    assert report.shannon_bytes == pytest.approx(bound)
    config = source / "adapter_config.json"
    if config.exists():
        assert (tmp_path / "back" / config.name).read_bytes() == config.read_bytes()


@pytest.mark.parametrize("name", ADAPTERS[::5])
@pytest.mark.parametrize("scope", [Scope.FACTOR, Scope.TENSOR])
def test_other_scopes(name: str, scope: Scope, test_data: Path, tmp_path: Path) -> None:
    source = test_data / name
    file, original = tensors_of(source)
    compress_adapter(source, tmp_path / "x.tern", method=Compeft(0.2, scope=scope))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / file)

    def group_of(key: str) -> str:
        if scope is Scope.TENSOR:
            return key
        return "A" if any(word in key for word in ("lora_A", "down.weight", ":down")) else "B"

    vectors = {key: value for key, value in original.items() if is_factor(key)}
    for key, (signs, scale) in per_group(vectors, group_of, 0.2).items():
        assert same_values(back[key], stored(signs, scale, np.float32)), key


@pytest.mark.parametrize("name", ["experts/sst2", "adapters/sd15-catundchat"])
def test_the_rule_of_torch(name: str, test_data: Path, tmp_path: Path) -> None:
    """Repeat the published routine in torch: kthvalue and std in float32."""
    torch = pytest.importorskip("torch")
    file, original = tensors_of(test_data / name)
    keys = sorted(key for key in original if is_factor(key))
    flat = torch.cat([torch.from_numpy(original[key]).flatten() for key in keys])
    threshold = flat.abs().kthvalue(len(flat) - int(len(flat) * 0.2)).values
    expected = torch.sign(flat * (flat.abs() >= threshold)) * flat.std()
    compress_adapter(test_data / name, tmp_path / "x.tern", method=Compeft(0.2))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / file)
    found = np.concatenate([back[key].ravel() for key in keys])
    np.testing.assert_array_equal(np.sign(found), np.sign(expected.numpy()))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_identical_adapters_compress_identically(test_data: Path, tmp_path: Path) -> None:
    for name in ("best", "epoch3"):
        compress_adapter(test_data / f"adapters/gpt2-gurvineet-{name}", tmp_path / f"{name}.tern")
    assert (tmp_path / "best.tern").read_bytes() == (tmp_path / "epoch3.tern").read_bytes()


def test_most_of_a_small_expert_is_its_head(test_data: Path, tmp_path: Path) -> None:
    report = compress_adapter(test_data / "experts/clinc150", tmp_path / "x.tern")
    found = inspect(tmp_path / "x.tern", against=test_data / "experts/clinc150")
    assert report.size.exact > 10 * report.size.lossy
    assert found.size == report.size
    assert found.exact_parameters == 150 * 385
    json.dumps(found.to_json(), allow_nan=False)


def test_the_known_loss_of_delta(test_data: Path, tmp_path: Path) -> None:
    """At density 10 % the joint threshold loses nearly all of ΔW on most real adapters."""
    errors = []
    for name in ADAPTERS[:10]:
        report = compress_adapter(test_data / name, tmp_path / "x.tern", method=Compeft(0.1))
        assert report.delta_error is not None
        errors.append(report.delta_error)
        assert report.erased
    assert min(errors) > 0.95


def test_erased_modules_agree_with_the_file(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "experts/sst2"
    report = compress_adapter(source, tmp_path / "x.tern", method=Compeft(0.1))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    empty = {
        key.removesuffix(".lora_B.weight")
        for key, value in back.items()
        if key.endswith("lora_B.weight") and not value.any()
    }
    assert empty <= set(report.erased)
    assert empty


@pytest.mark.parametrize(
    ("folder", "error"),
    [
        ("odd/pickle-bin-old-peft-enable-lora", PickleRefusedError),
        ("odd/config-only-weights-missing", SourceError),
    ],
)
def test_odd_uploads_are_refused_for_the_right_reason(
    folder: str, error: type[Exception], test_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        compress_adapter(test_data / folder, tmp_path / "x.tern")
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_beside_safetensors_is_left_out(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "odd/diffusers-both-bin-and-safetensors-no-config"
    report = compress_adapter(source, tmp_path / "small")
    assert any("pickle" in warning for warning in report.warnings)
    assert not list((tmp_path / "small").glob("*.bin"))
