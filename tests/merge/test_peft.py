"""Compare merges with PEFT's own on layers of every kind that it adapts, where it is right.

PEFT 0.21.2 merges adapters inside a model; ours are read back into the same model, and both are
asked for their ΔW. Where PEFT is wrong or has another convention, the test says so and how much.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.dtypes import Array
from merge import HeadPolicy, IncompatibleError, Recipe, WeightedAdapter, merge_adapters
from tests.merge.kit import close

torch: Any = pytest.importorskip("torch", reason="PEFT needs it")
peft: Any = pytest.importorskip("peft", reason="the library to compare with")
safetensors: Any = pytest.importorskip("safetensors.torch")
nn = torch.nn

KINDS = ("linear", "conv1d", "conv2d", "embedding")
SMALLEST_SIDE = {"linear": 8, "conv1d": 8, "conv2d": 8, "embedding": 10}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let PEFT warn about its own settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def layer(kind: str) -> Any:
    if kind == "conv1d":
        return pytest.importorskip("transformers.pytorch_utils").Conv1D(8, 12)
    if kind == "conv2d":
        return nn.Conv2d(3, 8, 3)
    return nn.Embedding(20, 10) if kind == "embedding" else nn.Linear(12, 8)


def adapted(kind: str, count: int, **changes: Any) -> Any:
    """Return a one-layer model with so many trained-looking adapters a0, a1, …."""
    torch.manual_seed(0)
    model = None
    for n in range(count):
        settings: dict[str, Any] = {
            "r": 4,
            "lora_alpha": 6 + n,
            "target_modules": ["own"],
            "fan_in_fan_out": kind == "conv1d",
            **changes,
        }
        config = peft.LoraConfig(**settings)
        if model is None:
            model = peft.PeftModel(nn.ModuleDict({"own": layer(kind)}), config, "a0")
        else:
            model.add_adapter(f"a{n}", config)
    assert model is not None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def combine(model: Any, kind: str, weights: list[float], **options: Any) -> Any:
    names = [f"a{n}" for n in range(len(weights))]
    model.base_model.add_weighted_adapter(names, weights, "both", combination_type=kind, **options)
    return model


def ours(model: Any, folder: Path, method: str, weights: list[float] | None, **asked: Any) -> Array:
    """Save the adapters, merge the files, load the result beside them, and take its ΔW."""
    names = [name for name in model.peft_config if name.startswith("a")]
    model.save_pretrained(folder, selected_adapters=names, save_embedding_layers=False)
    inputs = [
        WeightedAdapter(folder / name, weights[n] if weights else None)
        for n, name in enumerate(names)
    ]
    options: dict[str, Any] = {key: asked.pop(key) for key in ("density", "seed") if key in asked}
    merge_adapters(inputs, folder / "out", Recipe(method, options, **asked))
    model.load_adapter(folder / "out", "ours")
    return delta(model, "ours")


def delta(model: Any, name: str) -> Array:
    found = model.base_model.model["own"].get_delta_weight(name)
    return np.asarray(found.detach().double().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [[0.7, 0.3, 1.0], [1.0, -0.5, 2.0]])
def test_cat_is_the_weighted_sum(kind: str, weights: list[float], tmp_path: Path) -> None:
    model = combine(adapted(kind, 3), "cat", weights)
    for method in ("linear", "cat"):
        folder = tmp_path / method
        close(ours(model, folder, method, weights), delta(model, "both"), 1e-6)
        model.delete_adapter("ours")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [[0.7, 0.3, 1.0], [1.0, -0.5, 2.0]])
@pytest.mark.parametrize("rank", [2, None])
def test_svd(kind: str, weights: list[float], rank: int | None, tmp_path: Path) -> None:
    model = combine(adapted(kind, 3), "svd", weights, svd_rank=rank)
    close(ours(model, tmp_path, "svd", weights, rank=rank), delta(model, "both"), 2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
@pytest.mark.parametrize("density", [0.2, 0.5])
def test_trimmed_merges(kind: str, method: str, density: float, tmp_path: Path) -> None:
    """At equal weights of 1 both conventions of TIES are one."""
    rank, weights = SMALLEST_SIDE[kind], [1.0, 1.0, 1.0]
    model = combine(adapted(kind, 3), f"{method}_svd", weights, svd_rank=rank, density=density)
    found = ours(model, tmp_path, method, weights, rank=rank, density=density)
    close(found, delta(model, "both"), 2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["linear", "ties", "magnitude_prune"])
@pytest.mark.parametrize("weights", [[0.7, 0.3, 1.0], [1.0, -0.5, 2.0]])
def test_merges_of_factors(kind: str, method: str, weights: list[float], tmp_path: Path) -> None:
    asked = {} if method == "linear" else {"density": 0.5}
    model = combine(adapted(kind, 3), method, weights, **asked)
    found = ours(model, tmp_path, f"{method}-factors", weights, **asked)
    close(found, delta(model, "both"), 2e-6)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_what_is_dropped_at_random(method: str, tmp_path: Path) -> None:
    """Masks differ; the share that is kept, and what is left of an entry, do not."""
    density, weights = 0.4, [1.0, 1.0]
    model = adapted("conv2d", 2)
    with torch.no_grad():
        for side in ("lora_A", "lora_B"):
            getattr(model.base_model.model["own"], side)["a1"].weight.zero_()
    single = delta(model, "a0")
    model = combine(model, f"{method}_svd", weights, svd_rank=8, density=density)
    found = ours(model, tmp_path, method, weights, rank=8, density=density)
    for merged in (found, delta(model, "both")):
        kept = np.abs(merged) > 1e-4
        spread = math.sqrt(density * (1 - density) / kept.size)
        assert abs(kept.mean() - density) < 4 * spread
        np.testing.assert_allclose(merged[kept], single[kept] / density, rtol=1e-3, atol=1e-5)


# Where PEFT is wrong.


@pytest.mark.parametrize("combination", ["linear", "cat", "svd"])
def test_peft_scales_rslora_twice(combination: str, tmp_path: Path) -> None:
    """The result keeps `use_rslora` with alpha = r: every ΔW comes out √r times too large."""
    model = adapted("linear", 2, use_rslora=True)
    weights = [1.0, 0.0] if combination != "linear" else [1.0]
    combine(model, combination, weights)
    rank = 8 if combination == "cat" else 4
    close(delta(model, "both"), math.sqrt(rank) * delta(model, "a0"), 2e-6)
    close(ours(model, tmp_path, "linear", [1.0, 0.0]), delta(model, "a0"), 1e-6)


def _output(model: Any, name: str) -> Array:
    model.set_adapter(name)
    torch.manual_seed(5)
    with torch.no_grad():
        out = model.base_model.model["own"](torch.randn(16, 12))
    return np.asarray(out.double().numpy())


@pytest.mark.parametrize("setting", ["use_dora", "lora_bias"])
def test_peft_forgets_what_is_beside_the_factors(setting: str, tmp_path: Path) -> None:
    """An identity merge changes outputs, and nothing is said; we refuse such adapters by name."""
    model = adapted("linear", 2, **{setting: True})
    own = model.base_model.model["own"]
    with torch.no_grad():
        if setting == "use_dora":
            for name in ("a0", "a1"):
                own.lora_magnitude_vector[name].weight.mul_(1.5)
    combine(model, "linear", [1.0])
    right, found = _output(model, "a0"), _output(model, "both")
    assert np.linalg.norm(found - right) > 0.1 * np.linalg.norm(right)
    with pytest.raises(IncompatibleError) as caught:
        ours(model, tmp_path, "linear", [1.0, 0.0])
    assert caught.value.field == setting


def test_peft_merges_one_adapter_linearly_whatever_was_asked(tmp_path: Path) -> None:
    model = combine(adapted("linear", 1), "ties_svd", [1.0], svd_rank=8, density=0.2)
    close(delta(model, "both"), delta(model, "a0"), 1e-6)
    found = ours(model, tmp_path, "ties", [1.0], rank=8, density=0.2)
    kept = np.abs(found) > 1e-4
    assert kept.sum() == int(0.2 * kept.size)
    np.testing.assert_allclose(found[kept], delta(model, "a0")[kept], rtol=1e-4)


def test_unequal_weights_of_ties_mean_something_else(tmp_path: Path) -> None:
    """PEFT elects signs without the weights and divides by a number; we weigh both steps."""
    weights = [2.0, 1.0]
    model = combine(adapted("linear", 2), "ties_svd", weights, svd_rank=8, density=1.0)
    found = ours(model, tmp_path, "ties", weights, rank=8, density=1.0)
    one, other = delta(model, "a0"), delta(model, "a1")
    agree = one * other > 0
    np.testing.assert_allclose(
        delta(model, "both")[agree], ((2 * one + other) / 2)[agree], rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(found[agree], ((2 * one + other) / 3)[agree], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("combination", ["linear", "ties", "magnitude_prune"])
def test_peft_refuses_factors_of_unequal_ranks(combination: str, tmp_path: Path) -> None:
    model = adapted("linear", 1)
    model.add_adapter("a1", peft.LoraConfig(r=2, lora_alpha=2, target_modules=["own"]))
    asked: dict[str, Any] = {} if combination == "linear" else {"density": 0.5}
    with pytest.raises(ValueError, match="same r"):
        combine(model, combination, [1.0, 1.0], **asked)
    from merge import MergeOptionError

    refused: Callable[[], Array] = lambda: ours(  # noqa: E731
        model, tmp_path, f"{combination}-factors", [1.0, 1.0], **asked
    )
    with pytest.raises(MergeOptionError, match="equal ranks"):
        refused()


def test_adapters_of_layers_that_store_weights_either_way_are_merged(tmp_path: Path) -> None:
    """GPT-2 has both kinds; what PEFT saves as `fan_in_fan_out` is that of the last one."""
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    base = nn.ModuleDict({"first": conv1d(8, 12), "last": nn.Linear(12, 8)})
    said, expected = set(), {}
    model = peft.PeftModel(base, peft.LoraConfig(r=2, target_modules=["first"]), "a0")
    model.add_adapter("a1", peft.LoraConfig(r=3, target_modules=["first", "last"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    for own in ("a0", "a1"):
        config = peft.PeftConfig.from_pretrained(tmp_path / own)
        said.add(config.fan_in_fan_out)
    assert said == {False, True}
    inputs = [WeightedAdapter(tmp_path / own, 0.5) for own in ("a0", "a1")]
    merge_adapters(inputs, tmp_path / "out", Recipe())
    model.load_adapter(tmp_path / "out", "ours")
    layers = model.base_model.model
    for name in ("first", "last"):
        owners = [n for n in ("a0", "a1") if n in layers[name].lora_A]
        expected[name] = sum(0.5 * layers[name].get_delta_weight(n) for n in owners)
        close(
            layers[name].get_delta_weight("ours").detach().double().numpy(),
            expected[name].detach().double().numpy(),
            1e-6,
        )


def _with_q() -> Any:
    return nn.ModuleDict({"q": nn.Linear(8, 8)})


def test_own_ranks_of_modules_whose_paths_end_alike(tmp_path: Path) -> None:
    """PEFT takes a key of `rank_pattern` for the end of a path: `b.q` would be that of `a.b.q`."""
    torch.manual_seed(0)

    def base() -> Any:
        towers = {name: nn.ModuleDict({"b": _with_q()}) for name in ("a", "z")}
        return nn.ModuleDict({"b": _with_q(), **towers})

    model = peft.get_peft_model(base(), peft.LoraConfig(r=5, target_modules=["q"]))
    paths = ("b.q", "a.b.q", "z.b.q")
    model.save_pretrained(tmp_path / "in")
    file = tmp_path / "in" / "adapter_model.safetensors"
    tensors: dict[str, Any] = {}
    for kept, path in zip((1, 5, 3), paths, strict=True):
        a, b = torch.randn(5, 8), torch.randn(8, 5)
        a[kept:] = 0
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
    safetensors.save_file(tensors, file, metadata={"format": "pt"})
    merge_adapters([WeightedAdapter(tmp_path / "in")], tmp_path / "out", Recipe(energy=1.0))
    deltas = []
    for folder in ("in", "out"):
        loaded = peft.PeftModel.from_pretrained(base(), tmp_path / folder).base_model
        deltas.append([loaded.get_submodule(f"model.{path}") for path in paths])
    for before, after in zip(*deltas, strict=True):
        given, found = (
            layer.get_delta_weight("default").detach().numpy() for layer in (before, after)
        )
        close(found.astype(np.float64), given.astype(np.float64), 1e-5)


@pytest.mark.parametrize("heads", list(HeadPolicy))
def test_results_without_a_head_are_loaded(
    examples: Path, tmp_path: Path, heads: HeadPolicy
) -> None:
    """PEFT looks for the head of an adapter whose task is to classify."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=64, num_attention_heads=12, **sizes)
    inputs = [WeightedAdapter(examples / name, 0.5) for name in ("sst2", "mr-rt-polarity")]
    report = merge_adapters(inputs, tmp_path / "out", Recipe(heads=heads))
    base = transformers.BertForSequenceClassification(config)
    peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert (report.full_tensors == 0) == (heads is HeadPolicy.NONE)
