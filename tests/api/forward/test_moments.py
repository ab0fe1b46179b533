"""Test second moments against inputs caught in plain models and averaged by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from api.forward import moments as moments_module
from api.forward.moments import second_moments, write_moments
from compress.errors import OptionError
from tests.api.forward import plain_models

MakeAdapter = Callable[..., Path]
TEXTS = ("zero", "one two", "three four five six seven", "seven", "two two two two two two two")
FOUR = ["query", "value", "intermediate.dense", "attention.output.dense"]


def _caught(model: Any, base: Path, module: str) -> plain_models.Floats:
    """Give what enters a module of a plain model: float64 [tokens of all texts, d_in]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    inputs = []
    layer = model.get_submodule(module)
    hook = layer.register_forward_pre_hook(lambda _, x: inputs.append(x[0][0].double().numpy()))
    with torch.no_grad():
        for text in TEXTS:
            model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
    hook.remove()
    return np.concatenate(inputs)


@pytest.mark.parametrize("with_delta", [True, False])
def test_moments_equal_those_of_a_plain_model(
    encoder: Path, make_expert: MakeAdapter, with_delta: bool
) -> None:
    folder = make_expert(factor=0.6, target_modules=FOUR)
    model = plain_models.plain_classifier(encoder, folder, gain=float(with_delta))
    diagonal = second_moments(encoder, folder, TEXTS, with_delta=with_delta)
    full = second_moments(encoder, folder, TEXTS, full=True, with_delta=with_delta)
    assert len(diagonal) == len(full) == 8
    for name, found in full.items():
        x = _caught(model, encoder, name.removeprefix(plain_models.PREFIX))
        assert len(x) == sum(len(text.split()) for text in TEXTS)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, x.T @ x / len(x), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(diagonal[name], (x * x).mean(0), rtol=1e-4, atol=1e-6)


def test_delta_changes_what_later_layers_read(encoder: Path, make_expert: MakeAdapter) -> None:
    folder = make_expert(factor=0.6)
    one = second_moments(encoder, folder, TEXTS)
    two = second_moments(encoder, folder, TEXTS, with_delta=False)
    first, second = (
        f"base_model.model.bert.encoder.layer.{at}.attention.self.query" for at in (0, 1)
    )
    np.testing.assert_array_equal(one[first], two[first])
    assert not np.allclose(one[second], two[second])


def test_an_embedding_gets_the_share_of_each_token(causal: Path, causal_adapter: Path) -> None:
    found = second_moments(causal, causal_adapter, ["one one two", "two", "nonsense"])
    shares = found["base_model.model.model.embed_tokens"]
    np.testing.assert_allclose(shares, np.array([0, 1, 0, 2, 2, 0, 0, 0, 0, 0]) / 5, rtol=1e-6)
    assert found["base_model.model.model.layers.0.self_attn.q_proj"].shape == (16,)


def test_wide_modules_get_the_diagonal(
    encoder: Path, make_expert: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments_module, "MAX_FULL_INPUTS", 16)
    folder = make_expert(target_modules=["query", "output.dense"])
    found = second_moments(encoder, folder, TEXTS, full=True)
    shapes = {name.split("layer.1.")[1]: m.shape for name, m in found.items() if "layer.1" in name}
    assert shapes == {
        "attention.self.query": (16, 16),
        "attention.output.dense": (16, 16),
        "output.dense": (24,),
    }


def test_texts_are_needed(encoder: Path, make_expert: MakeAdapter) -> None:
    for texts in ([], ["", " "]):
        with pytest.raises(OptionError, match="no texts"):
            second_moments(encoder, make_expert(name=f"n{len(texts)}"), texts)


def test_the_file_is_plain_safetensors_and_always_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    moments = {
        "b.query": rng.random(6, dtype=np.float32),
        "a.key": rng.random((3, 3), dtype=np.float32),
    }
    write_moments(tmp_path / "1", moments, rows=7, base="tiny")
    write_moments(tmp_path / "2", dict(reversed(moments.items())), rows=7, base="tiny")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    with safe_open(tmp_path / "1", "np") as file:
        assert file.metadata() == {
            "format": "ternery-moments",
            "version": "1",
            "rows": "7",
            "base": "tiny",
        }
        assert set(file.keys()) == {"b.query.second_moment", "a.key.second_moment"}
        for name, array in moments.items():
            np.testing.assert_array_equal(file.get_tensor(f"{name}.second_moment"), array)
