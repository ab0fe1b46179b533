"""Check that compressed adapters of every PEFT type load into PEFT and act as predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compress import Compeft, Scope, compress_adapter, decompress
from tests import peft_zoo
from tests.compress.closed_form import predicted
from tests.peft_zoo import logits

pytest.importorskip("torch")
pytest.importorskip("peft")

Array = NDArray[Any]
WITHOUT_TASK_VECTOR = {
    "ADAPTION_PROMPT",
    "CARTRIDGE",
    "CPT",
    "DEFT",
    "HRA",
    "LN_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "OSF",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "PSOFT",
    "P_TUNING",
    "SHADOW",
    "TINYLORA",
    "TRAINABLE_TOKENS",
    "UNILORA",
    "VBLORA",
    "XLORA",
}
LOADED = ("LORA", "IA3", "LOHA", "LOKR", "ADALORA", "OFT", "VERA", "HIRA", "SHIRA", "PROMPT_TUNING")


def check(folder: Path, work: Path, density: float) -> tuple[str, ...]:
    """Compress, decompress and compare with the prediction; give the exact tensors."""
    original = load_file(folder / "adapter_model.safetensors")
    report = compress_adapter(folder, work / "small", method=Compeft(density))
    decompress(work / "small", work / "back")
    back = load_file(work / "back" / "adapter_model.safetensors")
    expected = predicted(original, report.exact_tensors, density)
    assert set(back) == set(original)
    for key, value in expected.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    save_file(expected, folder / "adapter_model.safetensors", {"format": "pt"})
    return report.exact_tensors


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peft_type", sorted(set(peft_zoo.PEFT_TYPES) - set(LOADED)))
def test_every_type_comes_back_as_predicted(peft_type: str, tmp_path: Path) -> None:
    if peft_type in peft_zoo.UNBUILDABLE:
        pytest.skip(peft_zoo.UNBUILDABLE[peft_type])
    folder = tmp_path / "adapter"
    peft_zoo.make_adapter(peft_type, folder)
    kept = check(folder, tmp_path, 0.3)
    everything = set(load_file(folder / "adapter_model.safetensors"))
    assert (set(kept) == everything) == (peft_type in WITHOUT_TASK_VECTOR)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peft_type", LOADED)
def test_loaded_adapters_act_as_predicted(peft_type: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    peft_zoo.make_adapter(peft_type, folder)
    before = logits(folder)
    check(folder, tmp_path, 0.3)
    found = logits(tmp_path / "back")
    np.testing.assert_array_equal(found, logits(folder))
    if peft_type not in WITHOUT_TASK_VECTOR:
        assert not np.array_equal(found, before)


VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 3}},
    "bias": {"lora_bias": True},
    "pissa": {"init_lora_weights": "pissa"},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "parameters": {"target_modules": [], "target_parameters": ["mlp.up_proj.weight"]},
    "tokens": {"trainable_token_indices": [1, 2]},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_lora(variant: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    peft_zoo.make_adapter("LORA", folder, **VARIANTS[variant])
    kept = check(folder, tmp_path, 0.3)
    np.testing.assert_array_equal(logits(tmp_path / "back"), logits(folder))
    assert all(".lora_A" not in key and ".lora_embedding" not in key for key in kept)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["rslora", "ranks"])
def test_scales_are_those_of_peft(variant: str, tmp_path: Path) -> None:
    from peft import PeftModel

    folder = tmp_path / "adapter"
    peft_zoo.make_adapter("LORA", folder, **VARIANTS[variant])
    report = compress_adapter(folder, tmp_path / "x.tern", method=Compeft(0.3, scope=Scope.TENSOR))
    model = PeftModel.from_pretrained(peft_zoo.make_base(), folder)
    scales = {
        name: module.scaling["default"]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    assert len(report.modules) == len(scales)
    for row in report.modules:
        assert row.scale == pytest.approx(scales[row.name])


@pytest.mark.filterwarnings("ignore")
def test_a_convolution_is_measured_like_its_dense_delta(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    def base() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 4, 3)
        )

    model = get_peft_model(base(), LoraConfig(r=3, lora_alpha=6, target_modules=["0", "2"]))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    report = compress_adapter(tmp_path / "adapter", tmp_path / "small", method=Compeft(0.4))
    decompress(tmp_path / "small", tmp_path / "back")

    def deltas(folder: str) -> Array:
        loaded: Any = PeftModel.from_pretrained(base(), str(tmp_path / folder))
        return np.concatenate(
            [
                module.get_delta_weight("default").detach().numpy().ravel()
                for module in loaded.modules()
                if hasattr(module, "get_delta_weight")
            ]
        )

    before, after = deltas("adapter"), deltas("back")
    expected = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert report.delta_error == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_measured_error_is_that_of_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    folder = tmp_path / "adapter"
    peft_zoo.make_adapter("LORA", folder, alpha_pattern={"q_proj": 3})
    report = compress_adapter(folder, tmp_path / "small", method=Compeft(0.3))
    decompress(tmp_path / "small", tmp_path / "back")

    def deltas(path: Path) -> dict[str, Array]:
        model: Any = PeftModel.from_pretrained(peft_zoo.make_base(), path)
        return {
            name: module.get_delta_weight("default").detach().numpy()
            for name, module in model.named_modules()
            if hasattr(module, "get_delta_weight")
        }

    before, after = deltas(folder), deltas(tmp_path / "back")
    rows = {row.name: row for row in report.modules}
    assert set(rows) == set(before)
    for name, delta in before.items():
        error = np.linalg.norm(after[name] - delta) / np.linalg.norm(delta)
        assert rows[name].error == pytest.approx(error, rel=1e-4)
    total = sum(np.sum((after[name] - delta) ** 2) for name, delta in before.items())
    energy = sum(np.sum(delta**2) for delta in before.values())
    assert report.delta_error == pytest.approx(np.sqrt(total / energy), rel=1e-4)


def test_the_config_is_kept_with_keys_nobody_knows(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    peft_zoo.make_adapter("LORA", folder)
    path = folder / "adapter_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "from_the_future": [1, {"a": "é"}]})
    )
    compress_adapter(folder, tmp_path / "x.tern")
    decompress(tmp_path / "x.tern", tmp_path / "back")
    assert (tmp_path / "back" / "adapter_config.json").read_bytes() == path.read_bytes()
