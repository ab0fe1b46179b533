"""Merge LoRA weights that come without a config: kohya, diffusers and cloneofsimo files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from merge import HeadPolicy, IncompatibleError, Recipe, WeightedAdapter, merge_adapters
from tests.merge.test_folders import lora, write_adapter

Tensors = dict[str, Any]
KOHYA = "lora_unet_down_blocks_0_attn1_to_q"


def kohya(
    folder: Path, seed: int, *, rank: int = 4, alpha: float = 2.0, more: Tensors | None = None
) -> Path:
    """Write a kohya file with a linear and a convolutional module, float16."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {
        f"{KOHYA}.lora_down.weight": rng.standard_normal((rank, 10)),
        f"{KOHYA}.lora_up.weight": rng.standard_normal((12, rank)),
        f"{KOHYA}.alpha": np.array(alpha),
        "lora_te_conv.lora_down.weight": rng.standard_normal((rank, 3, 3, 3)),
        "lora_te_conv.lora_up.weight": rng.standard_normal((5, rank, 1, 1)),
        "lora_te_conv.alpha": np.array(alpha),
        **(more or {}),
    }
    folder.mkdir()
    said = {"ss_network_dim": str(rank), "ss_network_alpha": str(alpha), "ss_base": "sd_v1"}
    path = folder / "style.safetensors"
    save_file({n: v.astype("float16") for n, v in tensors.items()}, path, metadata=said)
    return path


def kohya_delta(path: Path, module: str = KOHYA) -> Any:
    tensors = {n: t.astype(np.float64) for n, t in load_file(path).items()}
    down, up = tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"]
    scale = float(tensors[f"{module}.alpha"]) / len(down)
    return scale * up.reshape(len(up), -1) @ down.reshape(len(down), -1)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        found: dict[str, str] = file.metadata()
    return found


@pytest.mark.parametrize("options", [{}, {"rank": 3}, {"energy": 0.9}, {"rank": 12}])
def test_kohya_files_of_other_ranks_and_alphas(tmp_path: Path, options: dict[str, Any]) -> None:
    one = kohya(tmp_path / "1", 1)
    two = kohya(tmp_path / "2", 2, rank=6, alpha=5.0)
    inputs = [WeightedAdapter(one, 0.7), WeightedAdapter(two.parent, 0.3)]
    report = merge_adapters(inputs, tmp_path / "out", Recipe(dtype="float32", **options))
    out = tmp_path / "out" / "style.safetensors"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "merge_recipe.json",
        "style.safetensors",
    ]
    off = energy = 0.0
    for module in (KOHYA, "lora_te_conv"):
        expected = 0.7 * kohya_delta(one, module) + 0.3 * kohya_delta(two, module)
        off += float(((kohya_delta(out, module) - expected) ** 2).sum())
        energy += float((expected**2).sum())
    assert (off / energy) ** 0.5 == pytest.approx(report.error, abs=1e-5)
    assert load_file(out)["lora_te_conv.lora_down.weight"].shape[1:] == (3, 3, 3)
    told = metadata(out)
    assert told["ss_network_dim"] == told["ss_network_alpha"] == str(report.rank)
    assert told["ss_base"] == "sd_v1"


def _with_alpha(folder: Path, dtype: Any, *, rank: int, value: float) -> Path:
    """Write a kohya file whose alpha has another type than its factors."""
    path = kohya(folder, rank, rank=rank)
    alphas = {name: np.array(value, dtype) for name in load_file(path) if name.endswith(".alpha")}
    save_file({**load_file(path), **alphas}, path)
    return path


@pytest.mark.parametrize("dtype", ["int64", "int32", ml_dtypes.bfloat16, "float16"])
def test_alphas_of_any_type_are_read_and_written_exactly(tmp_path: Path, dtype: Any) -> None:
    """bfloat16 has no 259, and an int64 alpha is what kohya's trainer makes of `--alpha 8`."""
    one = _with_alpha(tmp_path / "1", dtype, rank=129, value=8)
    two = _with_alpha(tmp_path / "2", dtype, rank=130, value=8)
    inputs = [WeightedAdapter(one, 0.5), WeightedAdapter(two, 0.5)]
    merge_adapters(inputs, tmp_path / "out", Recipe(dtype="float32"))
    expected = 0.5 * kohya_delta(one) + 0.5 * kohya_delta(two)
    np.testing.assert_allclose(kohya_delta(tmp_path / "out" / one.name), expected, atol=1e-5)


def test_an_alpha_that_is_no_number_is_refused(tmp_path: Path) -> None:
    odd = _with_alpha(tmp_path / "1", "float32", rank=4, value=math.nan)
    with pytest.raises(IncompatibleError, match="not a finite number"):
        merge_adapters([WeightedAdapter(odd)], tmp_path / "out", Recipe())


def test_real_files_add_up(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "adapters" / "sd15-catundchat"
    merge_adapters([WeightedAdapter(folder, 0.25)] * 2, tmp_path / "out", Recipe())
    before = load_file(folder / "pytorch_lora_weights.safetensors")
    after = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert before.keys() == after.keys()
    for name, down in before.items():
        if name.endswith(".down.weight"):
            up = name.replace(".down.", ".up.")
            expected = 0.5 * before[up] @ down
            np.testing.assert_allclose(after[up] @ after[name], expected, rtol=1e-3, atol=1e-8)


def test_ranks_in_metadata_are_those_of_the_result(test_data: Path, tmp_path: Path) -> None:
    path = test_data / "adapters" / "sd-disney-cloneofsimo" / "lora_disney.safetensors"
    merge_adapters([WeightedAdapter(path, 0.5)] * 2, tmp_path / "out", Recipe())
    told = metadata(tmp_path / "out" / path.name)
    ranks = {key: value for key, value in told.items() if key.endswith(":rank")}
    assert len(ranks) == 192
    assert set(ranks.values()) == {"2"}
    assert told["unet"] == metadata(path)["unet"]


@pytest.mark.parametrize("tensor", ["dora_scale", "lora_mid.weight", "hada_w1_a", "lokr_w1"])
def test_what_is_no_product_of_two_is_refused(tmp_path: Path, tensor: str) -> None:
    name = f"{KOHYA}.{tensor}"
    odd = kohya(tmp_path / "1", 1, more={name: np.ones((4, 4))})
    with pytest.raises(IncompatibleError) as caught:
        merge_adapters([WeightedAdapter(odd)], tmp_path / "out", Recipe())
    assert caught.value.field in {name, f"{KOHYA}.lora_down.weight"}


def test_both_kinds_do_not_mix(tmp_path: Path) -> None:
    bare, folder = kohya(tmp_path / "1", 1), write_adapter(tmp_path / "2", lora(1))
    with pytest.raises(IncompatibleError, match="format differs"):
        merge_adapters([WeightedAdapter(bare), WeightedAdapter(folder)], tmp_path / "out", Recipe())


def test_a_scale_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    odd = write_adapter(tmp_path / "1", lora(1), alpha_pattern={"(q|k)+": 3})
    with pytest.raises(IncompatibleError) as caught:
        merge_adapters([WeightedAdapter(odd)], tmp_path / "out", Recipe())
    assert caught.value.field == "alpha_pattern"


def test_heads_can_be_left_out(tmp_path: Path) -> None:
    head = "base_model.model.score.weight"
    tensors = {**lora(1), head: np.ones((2, 3), "float32")}
    one = write_adapter(tmp_path / "1", tensors, modules_to_save=["score"], bias="all")
    recipe = Recipe(heads=HeadPolicy.NONE)
    assert merge_adapters([WeightedAdapter(one)], tmp_path / "out", recipe).full_tensors == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["bias"]) == (None, "none")
    assert head not in load_file(tmp_path / "out" / "adapter_model.safetensors")
