"""Test that models are loaded whole, safely and quietly, or refused with a reason."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from api.forward import require_torch
from api.forward.models import exchange, load, lora_layers, scaled
from compress.adapter import open_adapter
from compress.errors import BaseMismatchError, OptionError, PickleRefusedError, SourceError
from compress.lora import find_modules
from tests import peft_zoo

MakeAdapter = Callable[..., Path]
WEIGHTS = "adapter_model.safetensors"
IDS = torch.tensor([[2, 3, 4, 5]])


def _logits(loaded: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = loaded.model(input_ids=IDS).logits
    return found


def _change(folder: Path, **values: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def test_the_head_says_how_many_outputs_there_are(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert())
    assert loaded.outputs == 3
    assert _logits(loaded).shape == (1, 3)
    assert loaded.max_positions == 32
    assert not loaded.model.training


def test_nothing_is_written_to_the_terminal(
    encoder: Path,
    make_expert: MakeAdapter,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = make_expert()
    capfd.readouterr()
    caplog.clear()
    load(encoder, folder)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_causal_model(causal: Path, causal_adapter: Path) -> None:
    for adapter in (None, causal_adapter):
        loaded = load(causal, adapter)
        assert loaded.outputs == 0
        assert _logits(loaded).shape == (1, 4, 10)


def test_half_precision_is_computed_in_float32(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    base = tmp_path / "half"
    transformers.AutoModel.from_pretrained(encoder).half().save_pretrained(base)
    for file in encoder.glob("tokenizer*"):
        shutil.copy(file, base)
    assert json.loads((base / "config.json").read_text())["dtype"] == "float16"
    loaded = load(base, make_expert())
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_modules_have_the_names_that_compression_gives_them(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert()
    with open_adapter(folder) as source:
        names = {module.name for module in find_modules(source.weights, source.settings)}
    assert set(lora_layers(load(encoder, folder))) == names
    assert len(names) == 4


def test_a_gain_does_what_scaling_b_does(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    folder = make_expert()
    tensors = load_file(folder / WEIGHTS)
    larger = Path(shutil.copytree(folder, tmp_path / "larger"))
    scaled_b = {k: 1.5 * v if "lora_B" in k else v for k, v in tensors.items()}
    save_file(scaled_b, larger / WEIGHTS, {"format": "pt"})
    loaded = load(encoder, folder)
    before = _logits(loaded)
    with scaled(loaded, 1.5):
        torch.testing.assert_close(_logits(loaded), _logits(load(encoder, larger)))
        assert not torch.allclose(_logits(loaded), before)
    assert torch.equal(_logits(loaded), before)


def test_the_gain_is_taken_back_after_an_error(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert())
    before = _logits(loaded)

    def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError), scaled(loaded, 0.0):
        fail()
    assert torch.equal(_logits(loaded), before)


def test_exchanged_weights_are_those_of_a_fresh_load(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    loaded, other = load(encoder, make_expert()), make_expert(name="other", seed=5)
    before = _logits(loaded)
    exchange(loaded, other)
    assert torch.equal(_logits(loaded), _logits(load(encoder, other)))
    assert not torch.allclose(_logits(loaded), before)


def test_other_shapes_or_scales_are_not_exchanged(encoder: Path, make_expert: MakeAdapter) -> None:
    loaded = load(encoder, make_expert())
    for name, options in (("rank", {"r": 3}), ("scale", {"lora_alpha": 5})):
        with pytest.raises(OptionError, match="differ"):
            exchange(loaded, make_expert(name=name, **options))


def test_nothing_is_exchanged_without_an_adapter(causal: Path, causal_adapter: Path) -> None:
    with pytest.raises(OptionError, match="nothing to exchange"):
        exchange(load(causal), causal_adapter)


def test_a_bare_classifier_has_the_outputs_of_its_config(encoder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(encoder, tmp_path / "classifier"))
    config = json.loads((base / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = dict.fromkeys("0123", "label")
    (base / "config.json").write_text(json.dumps(config))
    assert load(base).outputs == 4


def test_an_adapter_without_a_head_is_refused(encoder: Path, make_expert: MakeAdapter) -> None:
    folder = make_expert()
    tensors = load_file(folder / WEIGHTS)
    save_file({k: v for k, v in tensors.items() if "lora_" in k}, folder / WEIGHTS)
    with pytest.raises(SourceError, match="head is nowhere"):
        load(encoder, folder)


def test_factors_that_are_missing_or_stray_are_refused(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert()
    tensors = load_file(folder / WEIGHTS)
    first = next(name for name in tensors if "lora_A" in name)
    save_file({k: v for k, v in tensors.items() if k != first}, folder / WEIGHTS)
    with pytest.raises(BaseMismatchError) as caught:
        load(encoder, folder)
    assert caught.value.field == first
    save_file(
        {**tensors, first.replace("layer.0", "layer.9"): tensors[first].clone()}, folder / WEIGHTS
    )
    with pytest.raises(BaseMismatchError, match=r"layer\.9"):
        load(encoder, folder)


def test_another_base_is_refused(causal: Path, encoder: Path, make_expert: MakeAdapter) -> None:
    with pytest.raises(BaseMismatchError, match="cannot be put on"):
        load(causal, make_expert())
    wide = {"base_model.model.classifier.weight": torch.zeros(3, 99)}
    folder = make_expert(name="wide")
    save_file({**load_file(folder / WEIGHTS), **wide}, folder / WEIGHTS)
    with pytest.raises(BaseMismatchError, match="cannot be put on"):
        load(encoder, folder)


def test_a_pickle_is_never_opened(encoder: Path, make_expert: MakeAdapter, tmp_path: Path) -> None:
    folder = make_expert()
    trap = tmp_path / "opened"
    (folder / WEIGHTS).rename(tmp_path / "away")
    (folder / "adapter_model.bin").write_bytes(f"cos\nmkdir\n(S'{trap}'\ntR.".encode())
    with pytest.raises(SourceError, match="no weights that can be run"):
        load(encoder, folder)
    base = Path(shutil.copytree(encoder, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(f"cos\nmkdir\n(S'{trap}'\ntR.".encode())
    (tmp_path / "away").rename(folder / WEIGHTS)
    with pytest.raises(PickleRefusedError):
        load(base, folder)
    assert not trap.exists()


def test_code_of_a_base_is_never_run(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(encoder, tmp_path / "base"))
    trap = tmp_path / "run"
    config = json.loads((base / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        name: f"own.{name}"
        for name in ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    }
    (base / "config.json").write_text(json.dumps(config))
    (base / "own.py").write_text(f"import pathlib\npathlib.Path({str(trap)!r}).touch()\n")
    with pytest.raises(SourceError, match="base cannot be loaded"):
        load(base, make_expert())
    assert not trap.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("megatron_config", {"a": 1}), ("adapters", {"0": "team/expert"})]
)
def test_an_adapter_that_names_something_to_load_is_refused(
    encoder: Path, make_expert: MakeAdapter, field: str, value: object
) -> None:
    with pytest.raises(SourceError, match=field):
        load(encoder, _change(make_expert(), **{field: value}))


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "ADALORA", "LORA", "DORA"])
def test_every_kind_of_adapter_runs_as_in_peft(kind: str, causal: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(causal, base)
    peft_zoo.make_base().save_pretrained(base)
    if kind == "DORA":
        peft_zoo.make_adapter("LORA", adapter, use_dora=True)
    else:
        peft_zoo.make_adapter(kind, adapter)
    loaded = load(base, adapter)
    with torch.inference_mode():
        found = loaded.model(input_ids=torch.arange(10)[None]).logits.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peft_zoo.logits(adapter)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_bad_config_is_refused(encoder: Path, make_expert: MakeAdapter, text: str) -> None:
    folder = make_expert()
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(SourceError, match=r"adapter_config\.json"):
        load(encoder, folder)


def test_absent_folders_are_refused(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        load(tmp_path / "nowhere", make_expert())
    with pytest.raises(SourceError, match="cannot be read"):
        load(encoder, tmp_path / "nowhere")


def test_a_damaged_base_is_refused(encoder: Path, make_expert: MakeAdapter, tmp_path: Path) -> None:
    base = Path(shutil.copytree(encoder, tmp_path / "base"))
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"model\.safetensors"):
        load(base, make_expert())


def test_the_zeroed_adapter_is_the_base_with_the_head(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    one, two = make_expert(), make_expert(name="none", factor=0.0)
    zeroed = load(encoder, one)
    with scaled(zeroed, 0.0):
        found = _logits(zeroed)
    np.testing.assert_allclose(found, _logits(load(encoder, two)), rtol=1e-5)


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_torch()
    monkeypatch.setattr("api.forward.find_spec", lambda name: None if name == "peft" else name)
    with pytest.raises(OptionError, match=r"no peft.*ternery\[torch\]"):
        require_torch()
