"""Check adapters that are odd, damaged or many, from files to files."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from merge import IncompatibleError, Recipe, WeightedAdapter, merge_adapters
from merge.method import Usual
from merge.methods import METHODS
from tests.merge.kit import ON_DELTA
from tests.merge.test_folders import dense, lora, write_adapter

_ALL = sorted(METHODS)


def inputs_for(name: str, *folders: Path) -> list[WeightedAdapter]:
    return [WeightedAdapter(folder) for folder in folders[: METHODS[name].inputs[1]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
@pytest.mark.parametrize("name", ["linear", "ties", "core", "linear-factors"])
def test_what_is_not_a_number_is_named(
    tmp_path: Path, value: float, factor: str, name: str
) -> None:
    tensors, place = lora(2), f"base_model.model.q.{factor}.weight"
    tensors[place][1, 1] = value
    good, bad = write_adapter(tmp_path / "1", lora(1)), write_adapter(tmp_path / "bad", tensors)
    with pytest.raises(IncompatibleError) as caught:
        merge_adapters(inputs_for(name, good, bad), tmp_path / "out", Recipe(name))
    assert caught.value.field == place
    assert caught.value.file.endswith("bad")
    assert "not finite" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", _ALL)
def test_every_method_writes_a_folder(tmp_path: Path, name: str) -> None:
    """Two modules of which each adapter has one, and one that both have."""
    alone = (lora(3, "k"), lora(4, "v"))
    one = write_adapter(tmp_path / "1", {**lora(1), **alone[0]}, target_modules=["q", "k"])
    other = write_adapter(tmp_path / "2", {**lora(2), **alone[1]}, target_modules=["q", "v"])
    report = merge_adapters(inputs_for(name, one, other), tmp_path / "out", Recipe(name))
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert report.modules == 3
    assert len(tensors) == 2 * report.modules
    assert config["target_modules"] == ["k", "q", "v"]
    assert config["r"] == config["lora_alpha"] == report.rank
    assert {len(t) for n, t in tensors.items() if "lora_A" in n} == {report.rank}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("name", _ALL)
def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    folders = [write_adapter(tmp_path / str(n), lora(n)) for n in (1, 2)]
    for out in ("x", "y"):
        merge_adapters(inputs_for(name, *folders), tmp_path / out, Recipe(name))
    one, other = (tmp_path / out / "adapter_model.safetensors" for out in ("x", "y"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", _ALL)
def test_adapters_without_a_common_module(tmp_path: Path, name: str) -> None:
    one = write_adapter(tmp_path / "1", lora(1, "q"))
    other = write_adapter(tmp_path / "2", lora(2, "k"), target_modules=["k"])
    merge_adapters(inputs_for(name, one, other), tmp_path / "out", Recipe(name))
    found = dense(tmp_path / "out")
    if (
        name not in {"model_stock", "ema", "iso", "core", "knots"}
        and "density" not in METHODS[name].options
    ):
        share = found.ravel() @ dense(one).ravel() / np.sum(dense(one) ** 2)
        np.testing.assert_allclose(found, share * dense(one), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", _ALL)
def test_a_module_that_training_left_alone(tmp_path: Path, name: str) -> None:
    tensors = {**lora(1), **lora(3, "k")}
    tensors["base_model.model.k.lora_B.weight"][:] = 0
    one = write_adapter(tmp_path / "1", tensors, target_modules=["q", "k"])
    other = write_adapter(tmp_path / "2", dict(tensors), target_modules=["q", "k"])
    report = merge_adapters(inputs_for(name, one, other), tmp_path / "out", Recipe(name))
    assert not dense(tmp_path / "out", "base_model.model.k").any()
    assert report.error < 1


def test_thirty_adapters_in_files(tmp_path: Path) -> None:
    folders = [write_adapter(tmp_path / str(n), lora(n % 20)) for n in range(30)]
    for name in ("linear", "ties", "tsv", "core", "wudi", "lego"):
        merge_adapters(
            [WeightedAdapter(folder) for folder in folders], tmp_path / name, Recipe(name, rank=4)
        )
        assert np.isfinite(dense(tmp_path / name)).all()
    expected = sum(dense(folder) for folder in folders) / 30
    full = merge_adapters(
        [WeightedAdapter(folder) for folder in folders], tmp_path / "full", Recipe()
    )
    assert full.rank == 60
    np.testing.assert_allclose(dense(tmp_path / "full"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "ties", "core", "tsv"])
def test_energy_gives_ranks_that_peft_loads(tmp_path: Path, name: str) -> None:
    """Each module has its own rank and alpha in the config, under its whole name."""
    peft, nn = pytest.importorskip("peft"), pytest.importorskip("torch.nn")
    base = nn.ModuleDict(
        {
            "layers": nn.ModuleList(
                nn.ModuleDict({"q": nn.Linear(5, 6), "k": nn.Linear(5, 6)}) for _ in range(12)
            )
        }
    )
    folders = []
    for n in range(3):
        tensors: dict[str, Any] = {}
        for layer in range(12):
            for part in "qk":
                own = lora(100 * n + 2 * layer + (part == "k"), f"layers.{layer}.{part}")
                own[f"base_model.model.layers.{layer}.{part}.lora_B.weight"][:, 1] *= layer / 4
                tensors |= own
        folders.append(write_adapter(tmp_path / str(n), tensors, target_modules=["q", "k"]))
    out = tmp_path / "out"
    merge_adapters([WeightedAdapter(f) for f in folders], out, Recipe(name, energy=0.9))
    config = json.loads((out / "adapter_config.json").read_text())
    tensors = load_file(out / "adapter_model.safetensors")
    assert len({len(t) for key, t in tensors.items() if "lora_A" in key}) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(base, out)
    compared = 0
    for key, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            a, b = (tensors[f"{key}.lora_{side}.weight"] for side in "AB")
            ours = b.astype(float) @ a
            theirs = layer.get_delta_weight("default").detach().numpy()
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared == 24
    assert set(config["rank_pattern"]) == set(config["alpha_pattern"])


def test_the_reported_error_is_that_of_the_files(tmp_path: Path) -> None:
    folders = [
        write_adapter(tmp_path / str(n), {**lora(n), **lora(9 + n, "k")}, target_modules=["q", "k"])
        for n in range(4)
    ]
    adapters = [WeightedAdapter(folder) for folder in folders]
    for name in ("linear", "ties", "tsv", "wudi", "core", "knots", "iso"):
        merge_adapters(adapters, tmp_path / f"{name}-full", Recipe(name, rank=5))
        report = merge_adapters(adapters, tmp_path / f"{name}-cut", Recipe(name, rank=2))
        off = energy = 0.0
        for module in ("base_model.model.q", "base_model.model.k"):
            full = dense(tmp_path / f"{name}-full", module)
            off += float(np.sum((dense(tmp_path / f"{name}-cut", module) - full) ** 2))
            energy += float(np.sum(full**2))
        assert report.error == pytest.approx(np.sqrt(off / energy), rel=1e-4)


#: What these draw depends on the size, rounded: another size is another draw.
_DRAWN = ("dare", "della")


@pytest.mark.parametrize("size", [2.0**-160, 2.0**-126, 2.0**126])
@pytest.mark.parametrize("name", [n for n in _ALL if not n.startswith(_DRAWN)])
def test_size_does_not_matter(tmp_path: Path, name: str, size: float) -> None:
    """ΔW as small or large as float32 factors can make it; entry by entry it has no such range."""
    side = np.float32(math.sqrt(size))
    found = []
    for place, factor in (("usual", np.float32(1)), ("odd", side)):
        folders = [
            write_adapter(tmp_path / f"{place}{n}", {k: v * factor for k, v in lora(n).items()})
            for n in (1, 2)
        ]
        merge_adapters(inputs_for(name, *folders), tmp_path / place, Recipe(name))
        found.append(dense(tmp_path / place))
    np.testing.assert_allclose(found[1] / size, found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [2.0**-15, 2.0**15])
def test_float16_is_used_for_both_factors(tmp_path: Path, weight: float) -> None:
    """A weight is folded into B, which float16 would round to a few digits, or could not hold."""
    adapter = write_adapter(tmp_path / "1", lora(1, dtype="float16"))
    merge_adapters([WeightedAdapter(adapter, weight)], tmp_path / "out", Recipe())
    assert load_file(tmp_path / "out" / "adapter_model.safetensors").popitem()[1].dtype == "float16"
    np.testing.assert_allclose(dense(tmp_path / "out") / weight, dense(adapter), atol=5e-3)


@pytest.mark.parametrize("name", [n for n in ON_DELTA if METHODS[n].usual is not Usual.FOUND])
def test_a_weight_of_zero_removes_an_adapter(tmp_path: Path, name: str) -> None:
    """Also one that has a module alone, whose ΔW is then 0."""
    one = write_adapter(tmp_path / "1", lora(1))
    two = write_adapter(tmp_path / "2", lora(2, rank=1), r=1)
    gone = write_adapter(tmp_path / "3", {**lora(3), **lora(4, "k")}, target_modules=["q", "k"])
    pair = [WeightedAdapter(one, 0.75), WeightedAdapter(two, 0.25)]
    pair = pair[: METHODS[name].inputs[1] - 1]
    without = tmp_path / "without"
    if METHODS[name].inputs[0] <= len(pair):
        merge_adapters(pair, without, Recipe(name))
        expected = dense(without)
    else:
        expected = dense(one)
    merge_adapters([*pair, WeightedAdapter(gone, 0.0)], tmp_path / "with", Recipe(name))
    np.testing.assert_allclose(dense(tmp_path / "with"), expected, rtol=1e-5, atol=1e-7)
    assert not dense(tmp_path / "with", "base_model.model.k").any()


def test_sums_of_eight_bit_factors_are_stored_as_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    folders = []
    for n in (1, 2):
        narrow = {k: torch.from_numpy(v).to(torch.float8_e4m3fn) for k, v in lora(n).items()}
        wide = {name: values.float().numpy() for name, values in narrow.items()}
        folders.append((write_adapter(tmp_path / f"w{n}", wide), tmp_path / f"n{n}"))
        save_file(narrow, write_adapter(tmp_path / f"n{n}", wide) / "adapter_model.safetensors")
    inputs = [WeightedAdapter(narrow, 0.3) for _, narrow in folders]
    merge_adapters(inputs, tmp_path / "out", Recipe(rank=3))
    inputs = [WeightedAdapter(wide, 0.3) for wide, _ in folders]
    merge_adapters(inputs, tmp_path / "like", Recipe(rank=3))
    np.testing.assert_allclose(dense(tmp_path / "out"), dense(tmp_path / "like"), atol=1e-6)


def test_factors_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    odd = write_adapter(tmp_path / "1", lora(1, dtype="int8"))
    with pytest.raises(IncompatibleError) as caught:
        merge_adapters([WeightedAdapter(odd)], tmp_path / "out", Recipe())
    assert (caught.value.expected, caught.value.actual) == ("floats", "'I8'")
