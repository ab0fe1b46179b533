"""Check what goes into a merge and what folder comes out, on real experts, odd ones and PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compress.errors import DestinationError
from merge import (
    HeadPolicy,
    IncompatibleError,
    MergeOptionError,
    Recipe,
    WeightedAdapter,
    merge_adapters,
)

Tensors = dict[str, Any]
WEIGHTS = "adapter_model.safetensors"
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "org/tiny",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q"],
}


def write_adapter(folder: Path, tensors: Tensors, **changes: object) -> Path:
    """Write a small PEFT folder."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def lora(seed: int, module: str = "q", rank: int = 2, dtype: str = "float32") -> Tensors:
    """Return the two factors of one module, [rank, 5] and [6, rank]."""
    rng = np.random.default_rng(seed)
    stem = f"base_model.model.{module}"
    return {
        f"{stem}.lora_A.weight": rng.standard_normal((rank, 5)).astype(dtype),
        f"{stem}.lora_B.weight": rng.standard_normal((6, rank)).astype(dtype),
    }


def dense(folder: Path, module: str = "base_model.model.q") -> Any:
    """Return scale · B A of one module, float64 [d_out, d_in], from the files alone."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    if f"{module}.lora_A.weight" not in tensors:
        return None
    a = tensors[f"{module}.lora_A.weight"].astype(np.float64)
    b = tensors[f"{module}.lora_B.weight"].astype(np.float64)
    root = math.sqrt(len(a)) if config.get("use_rslora") else len(a)
    return config["lora_alpha"] / root * b.reshape(len(b), -1) @ a.reshape(len(a), -1)


def merged(tmp_path: Path, *inputs: tuple[Path, float], **options: Any) -> Path:
    """Merge into a new folder and return it."""
    adapters = [WeightedAdapter(p, w) for p, w in inputs]
    merge_adapters(adapters, tmp_path / "out", Recipe(**options))
    return tmp_path / "out"


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0), (-0.5, 1.25)])
def test_real_experts_add_up(examples: Path, tmp_path: Path, weights: tuple[float, float]) -> None:
    one, other = examples / "sst2", examples / "mr-rt-polarity"
    out = merged(tmp_path, (one, weights[0]), (other, weights[1]))
    modules = {
        n.rsplit(".lora_", 1)[0]
        for n in load_file(out / "adapter_model.safetensors")
        if "lora_" in n
    }
    assert len(modules) == 18
    for module in modules:
        expected = weights[0] * dense(one, module) + weights[1] * dense(other, module)
        error = np.linalg.norm(dense(out, module) - expected) / np.linalg.norm(expected)
        assert error < 1e-6
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (16, 16)


def test_merging_one_adapter_is_the_identity(examples: Path, tmp_path: Path) -> None:
    out = merged(tmp_path, (examples / "sst2", 1.0))
    module = "base_model.model.bert.encoder.layer.0.attention.self.query"
    np.testing.assert_allclose(
        dense(out, module), dense(examples / "sst2", module), rtol=1e-6, atol=1e-9
    )
    before = load_file(examples / "sst2" / "adapter_model.safetensors")
    after = load_file(out / "adapter_model.safetensors")
    heads = [name for name in before if "lora_" not in name]
    assert heads
    assert all(np.array_equal(before[name], after[name]) for name in heads)


def test_rank_reduction_reports_its_error(examples: Path, tmp_path: Path) -> None:
    inputs = [WeightedAdapter(examples / n, 0.5) for n in ("sst2", "mr-rt-polarity")]
    report = merge_adapters(inputs, tmp_path / "small", Recipe(rank=4))
    merge_adapters(inputs, tmp_path / "full", Recipe())
    off = energy = 0.0
    for name in load_file(tmp_path / "full" / "adapter_model.safetensors"):
        if name.endswith("lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            full, small = dense(tmp_path / "full", module), dense(tmp_path / "small", module)
            off += float(((full - small) ** 2).sum())
            energy += float((full**2).sum())
    assert report.rank == 4
    assert 0.01 < report.error < 0.9
    assert report.error == pytest.approx(math.sqrt(off / energy), rel=1e-4)


def test_order_does_not_matter(tmp_path: Path) -> None:
    one, other = write_adapter(tmp_path / "1", lora(1)), write_adapter(tmp_path / "2", lora(2))
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    first = merged(tmp_path / "x", (one, 0.25), (other, 0.75))
    second = merged(tmp_path / "y", (other, 0.75), (one, 0.25))
    np.testing.assert_allclose(dense(first), dense(second), rtol=1e-6)


def test_ranks_alphas_and_rslora_are_folded_in(tmp_path: Path) -> None:
    plain = write_adapter(tmp_path / "1", lora(1), lora_alpha=7)
    stable = write_adapter(tmp_path / "2", lora(2, rank=4), r=4, lora_alpha=3, use_rslora=True)
    expected = 0.5 * dense(plain) + 2 * dense(stable)
    out = merged(tmp_path, (plain, 0.5), (stable, 2.0))
    np.testing.assert_allclose(dense(out), expected, rtol=1e-5)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["use_rslora"] is False
    assert config["rank_pattern"] == {}


def test_a_module_that_one_lacks_counts_as_zero(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "1", lora(1, "q"))
    other = write_adapter(tmp_path / "2", lora(2, "k"), target_modules=["k"])
    out = merged(tmp_path, (one, 0.5), (other, 0.5))
    np.testing.assert_allclose(dense(out), 0.5 * dense(one), rtol=1e-6)
    k = "base_model.model.k"
    np.testing.assert_allclose(dense(out, k), 0.5 * dense(other, k), rtol=1e-6)
    assert json.loads((out / "adapter_config.json").read_text())["target_modules"] == ["k", "q"]


def test_convolutions_keep_their_shape(tmp_path: Path) -> None:
    def conv(seed: int) -> Tensors:
        rng = np.random.default_rng(seed)
        stem = "base_model.model.q"
        return {
            f"{stem}.lora_A.weight": rng.standard_normal((2, 3, 3, 3)).astype("float32"),
            f"{stem}.lora_B.weight": rng.standard_normal((4, 2, 1, 1)).astype("float32"),
        }

    one, other = write_adapter(tmp_path / "1", conv(1)), write_adapter(tmp_path / "2", conv(2))
    out = merged(tmp_path, (one, 1.0), (other, 1.0), rank=3)
    tensors = load_file(out / "adapter_model.safetensors")
    assert tensors["base_model.model.q.lora_A.weight"].shape == (3, 3, 3, 3)
    assert tensors["base_model.model.q.lora_B.weight"].shape == (4, 3, 1, 1)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_storage_type_is_kept(tmp_path: Path, dtype: str) -> None:
    one = write_adapter(tmp_path / "1", lora(1, dtype=dtype))
    other = write_adapter(tmp_path / "2", lora(2, dtype=dtype))
    out = merged(tmp_path, (one, 0.5), (other, 0.5))
    assert {str(t.dtype) for t in load_file(out / "adapter_model.safetensors").values()} == {dtype}


def test_heads_are_averaged_or_taken_from_the_first(tmp_path: Path) -> None:
    head = "base_model.model.score.weight"
    one = write_adapter(tmp_path / "1", {**lora(1), head: np.full((2, 3), 1.0, "float32")})
    other = write_adapter(tmp_path / "2", {**lora(2), head: np.full((2, 3), 5.0, "float32")})
    (tmp_path / "x").mkdir()
    average = merged(tmp_path, (one, 3.0), (other, 1.0))
    first = merged(tmp_path / "x", (one, 3.0), (other, 1.0), heads=HeadPolicy.FIRST)
    assert np.all(load_file(average / "adapter_model.safetensors")[head] == 2.0)
    assert np.all(load_file(first / "adapter_model.safetensors")[head] == 1.0)


def test_heads_of_other_shapes_are_named(tmp_path: Path) -> None:
    head = "base_model.model.score.weight"
    one = write_adapter(tmp_path / "1", {**lora(1), head: np.ones((2, 3), "float32")})
    other = write_adapter(tmp_path / "2", {**lora(2), head: np.ones((6, 3), "float32")})
    with pytest.raises(IncompatibleError) as caught:
        merged(tmp_path, (one, 0.5), (other, 0.5), heads=HeadPolicy.AVERAGE)
    assert caught.value.field == head
    assert (caught.value.expected, caught.value.actual) == ("(2, 3)", "(6, 3)")
    assert "--heads first" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("classes", "weight"), [(6, 0.5), (2, -0.5)])
def test_heads_that_have_no_average_are_those_of_the_first(
    tmp_path: Path, classes: int, weight: float
) -> None:
    head = "base_model.model.score.weight"
    first = np.ones((2, 3), "float32")
    saved = {"modules_to_save": ["score"]}
    one = write_adapter(tmp_path / "1", {**lora(1), head: first}, **saved)
    two = {**lora(2), head: np.full((classes, 3), 2.0, "float32")}
    inputs = [
        WeightedAdapter(one, 0.5),
        WeightedAdapter(write_adapter(tmp_path / "2", two, **saved), weight),
    ]
    report = merge_adapters(inputs, tmp_path / "out", Recipe())
    assert report.heads is HeadPolicy.FIRST
    assert "those of 1 are kept" in report.warnings[0]
    np.testing.assert_array_equal(load_file(tmp_path / "out" / WEIGHTS)[head], first)
    recipe = json.loads((tmp_path / "out" / "merge_recipe.json").read_text())
    assert recipe["heads"] == "first"
    alike = merge_adapters(inputs[:1] * 2, tmp_path / "alike", Recipe())
    assert (alike.heads, alike.warnings) == (HeadPolicy.AVERAGE, ())


def test_whole_numbers_beside_the_factors_are_kept_where_they_agree(tmp_path: Path) -> None:
    """A model's head may have a buffer, such as the positions of an embedding."""
    places = {"base_model.model.score.places": np.arange(4)}
    one = write_adapter(tmp_path / "1", {**lora(1), **places})
    two = write_adapter(tmp_path / "2", {**lora(2), **places})
    moved = {name: values + 1 for name, values in places.items()}
    other = write_adapter(tmp_path / "3", {**lora(3), **moved})
    name = next(iter(places))
    with pytest.raises(IncompatibleError, match="differs") as caught:
        merged(tmp_path, (one, 0.5), (other, 0.5), heads=HeadPolicy.AVERAGE)
    assert caught.value.field == name
    inputs = [WeightedAdapter(one, 0.5), WeightedAdapter(other, 0.5)]
    assert merge_adapters(inputs, tmp_path / "first", Recipe()).heads is HeadPolicy.FIRST
    out = merged(tmp_path, (one, 0.5), (two, 0.5))
    np.testing.assert_array_equal(load_file(out / "adapter_model.safetensors")[name], np.arange(4))


def test_weights_that_cancel_cannot_average_heads(tmp_path: Path) -> None:
    head = "base_model.model.score.weight"
    one = write_adapter(tmp_path / "1", {**lora(1), head: np.ones((2, 3), "float32")})
    other = write_adapter(tmp_path / "2", {**lora(2), head: np.ones((2, 3), "float32")})
    with pytest.raises(MergeOptionError, match="sum to 0"):
        merged(tmp_path, (one, 1.0), (other, -1.0), heads=HeadPolicy.AVERAGE)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["w"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"kasa_config": {"beta": 1e-4}}, "kasa_config"),
        ({"monteclora_config": {"num_samples": 4}}, "monteclora_config"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"base_model_name_or_path": "org/other"}, "base_model_name_or_path"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(
    tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    good, bad = (
        write_adapter(tmp_path / "1", lora(1)),
        write_adapter(tmp_path / "2", lora(2), **changes),
    )
    with pytest.raises(IncompatibleError) as caught:
        merged(tmp_path, (good, 0.5), (bad, 0.5))
    assert caught.value.field == field
    assert caught.value.expected
    assert not (tmp_path / "out").exists()


def test_one_base_may_be_spelled_in_several_ways(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "1", lora(1), base_model_name_or_path="org/Tiny-Model")
    other = write_adapter(tmp_path / "2", lora(2), base_model_name_or_path="C:\\models\\tiny_model")
    assert dense(merged(tmp_path, (one, 0.5), (other, 0.5))) is not None


def test_a_first_adapter_without_a_base_does_not_hide_that_others_differ(tmp_path: Path) -> None:
    names = (None, "org/one", "org/other")
    inputs = [
        (write_adapter(tmp_path / str(n), lora(n), base_model_name_or_path=name), 1.0)
        for n, name in enumerate(names)
    ]
    with pytest.raises(IncompatibleError, match="2 cannot be merged with 1"):
        merged(tmp_path, *inputs)


@pytest.mark.parametrize("saved", ["score", ["score", 3]])
def test_settings_of_other_shapes_are_read_as_names(tmp_path: Path, saved: object) -> None:
    odd = write_adapter(tmp_path / "1", lora(1), modules_to_save=saved, target_modules=["q", 1])
    out = merged(tmp_path, (odd, 1.0))
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["target_modules"]) == (["score"], ["q"])


def _wrong_shape(folder: Path) -> Path:
    tensors = lora(2)
    tensors["base_model.model.q.lora_A.weight"] = np.ones((2, 9), "float32")
    return write_adapter(folder, tensors)


def _half_a_pair(folder: Path) -> Path:
    tensors = {**lora(2), "base_model.model.k.lora_A.weight": np.ones((2, 5), "float32")}
    return write_adapter(folder, tensors)


def _no_config(folder: Path) -> Path:
    write_adapter(folder, lora(2))
    (folder / "adapter_config.json").unlink()
    return folder


def _pickle(folder: Path) -> Path:
    write_adapter(folder, lora(2))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


@pytest.mark.parametrize("make", [_wrong_shape, _half_a_pair, _no_config, _pickle])
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    good = write_adapter(tmp_path / "1", lora(1))
    with pytest.raises(IncompatibleError):
        merged(tmp_path, (good, 0.5), (make(tmp_path / "2"), 0.5))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e39, -1e300])
def test_weights_must_be_finite(tmp_path: Path, weight: float) -> None:
    with pytest.raises(MergeOptionError):
        merged(tmp_path, (write_adapter(tmp_path / "1", lora(1)), weight))


def test_the_largest_weight_and_scale_do_not_overflow(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "1", lora(1))
    with pytest.raises(MergeOptionError, match="range"):
        merged(tmp_path, (adapter, 1.0), options={"scale": 1e39})
    out = merged(tmp_path, (adapter, 1e38), options={"scale": 1e38})
    np.testing.assert_allclose(dense(out) / 1e38 / 1e38, dense(adapter), rtol=1e-5)


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(MergeOptionError):
        merge_adapters([], tmp_path / "out", Recipe())
    with pytest.raises(MergeOptionError):
        merged(tmp_path, (write_adapter(tmp_path / "1", lora(1)), 1.0), rank=0)


def test_a_rank_beyond_all_modules_is_refused(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "1", lora(1))
    with pytest.raises(MergeOptionError) as caught:
        merged(tmp_path, (adapter, 1.0), rank=10**9)
    assert (caught.value.field, caught.value.expected) == ("rank", "at most 1024")
    assert not (tmp_path / "out").exists()
    assert (
        json.loads((merged(tmp_path, (adapter, 1.0), rank=64) / "adapter_config.json").read_text())[
            "r"
        ]
        == 64
    )


def test_a_taken_destination_is_left_alone(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "1", lora(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(DestinationError):
        merged(tmp_path, (adapter, 1.0))
    assert (tmp_path / "out" / "mine").read_text() == "keep"


def _without_head(source: Path, folder: Path) -> Path:
    """Copy an expert's LoRA part alone: PEFT does not merge two adapters that both save a head."""
    config = json.loads((source / "adapter_config.json").read_text())
    tensors = load_file(source / "adapter_model.safetensors")
    folder.mkdir()
    config |= {"modules_to_save": None, "task_type": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {n: t for n, t in tensors.items() if "lora_" in n}, folder / "adapter_model.safetensors"
    )
    return folder


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 0.5)])
def test_peft_agrees_where_it_is_right(
    examples: Path, tmp_path: Path, weights: tuple[float, float]
) -> None:
    """PEFT's `cat` is the exact weighted sum; compare ΔW of every module."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=64,
    )
    names = ("sst2", "mr-rt-polarity")
    paths = [_without_head(examples / name, tmp_path / name) for name in names]
    base = transformers.BertForSequenceClassification(config)
    model = peft.PeftModel.from_pretrained(base, paths[0], adapter_name="one")
    model.load_adapter(paths[1], adapter_name="two")
    model.base_model.add_weighted_adapter(
        ["one", "two"], list(weights), "both", combination_type="cat"
    )
    out = merged(tmp_path, (paths[0], weights[0]), (paths[1], weights[1]))
    compared = 0
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight") and "both" in getattr(layer, "lora_A", {}):
            expected = layer.get_delta_weight("both").detach().double().numpy()
            ours = dense(out, name)
            assert np.linalg.norm(ours - expected) / np.linalg.norm(expected) < 1e-6
            compared += 1
    assert compared == 18
