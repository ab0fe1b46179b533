"""Test the shapes of base models against the models themselves."""

from __future__ import annotations

from typing import Any

import pytest

from registry.base_shapes import base_modules, join_shapes, module_path, shapes_from_config
from registry.catalog.errors import BaseShapeError

DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
}
GROUPED = DECODER | {"num_key_value_heads": 2}
WIDE = GROUPED | {"head_dim": 16}
ENCODER = DECODER | {"max_position_embeddings": 32, "pad_token_id": 0}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": WIDE,
    "qwen2": GROUPED,
    "qwen3": WIDE,
    "gemma": WIDE,
    "gemma2": WIDE,
    "gemma3_text": WIDE,
    "granite": GROUPED,
    "olmo2": GROUPED,
    "stablelm": GROUPED,
    "smollm3": GROUPED | {"pad_token_id": 0},
    "phi": GROUPED,
    "phi3": GROUPED | {"pad_token_id": 0},
    "bert": ENCODER,
    "roberta": ENCODER,
    "xlm-roberta": ENCODER,
    "electra": ENCODER,
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64},
    "gpt_neox": DECODER,
    "opt": DECODER | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64},
    "falcon": DECODER | {"multi_query": True, "new_decoder_architecture": False},
    "t5": {
        "d_model": 32,
        "d_ff": 48,
        "d_kv": 6,
        "num_heads": 4,
        "num_layers": 2,
        "vocab_size": 64,
    },
}
VARIANTS = [
    *FAMILIES.items(),
    ("falcon", DECODER | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", DECODER | {"multi_query": False, "ffn_hidden_size": 96}),
    ("t5", FAMILIES["t5"] | {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 3}),
    ("gpt2", FAMILIES["gpt2"] | {"n_inner": 40}),
]


def real_shapes(model_type: str, fields: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Build the model itself, small and without weights, and return its linear modules."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(model_type, **fields)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    found: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if type(module).__name__ == "Conv1D":
            d_in, d_out = module.weight.shape
            found[path] = (d_out, d_in)
        elif isinstance(module, torch.nn.Linear):
            found[path] = (module.out_features, module.in_features)
    return base_modules(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "fields"), VARIANTS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(VARIANTS)]
)
@pytest.mark.filterwarnings("ignore")
def test_a_configuration_tells_what_the_model_has(model_type: str, fields: dict[str, Any]) -> None:
    told = shapes_from_config({"model_type": model_type, **fields})
    real = real_shapes(model_type, fields)
    assert told
    assert {module: real.get(module) for module in told} == told
    assert all("pool" in m or "relative" in m for m in real.keys() - told.keys())


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj"),
        ("bert.encoder.layer.0.output.dense", "encoder.layer.0.output.dense"),
        ("distilbert.transformer.layer.1.ffn.lin1", "layer.1.ffn.lin1"),
        ("model.language_model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"),
        ("transformer.h.3.attn.c_attn", "h.3.attn.c_attn"),
        ("model", "model"),
        ("unet.model.x", "unet.model.x"),
    ],
)
def test_wrappers_are_cut_off(path: str, short: str) -> None:
    assert module_path(path) == short


@pytest.mark.parametrize(
    "path",
    [
        "classifier",
        "classifier.dense",
        "score",
        "lm_head",
        "model.embed_tokens",
        "transformer.wte",
        "shared",
        "bert.embeddings.word_embeddings",
        "qa_outputs",
    ],
)
def test_heads_and_embeddings_are_left_out(path: str) -> None:
    assert base_modules({path: (2, 4), "layers.0.q": (1, 1)}) == {"layers.0.q": (1, 1)}


def test_new_shapes_are_told_apart_from_known_ones() -> None:
    known = {"a": (1, 2), "b": (3, 4)}
    assert join_shapes("x", known, {"a": (1, 2), "c": (5, 6)}) == {"c": (5, 6)}
    with pytest.raises(BaseShapeError) as caught:
        join_shapes("x", known, {"c": (5, 6), "b": (4, 3)})
    assert (caught.value.module, caught.value.field) == ("b", "b")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "unheard-of"},
        {"model_type": "llama"},
        {"model_type": "llama", **DECODER, "num_attention_heads": 0},
        {"model_type": "llama", **DECODER, "hidden_size": "32"},
        {"model_type": "llama", **DECODER, "hidden_size": True},
        {"model_type": "llama", **DECODER, "hidden_size": 1 << 40},
        {"model_type": ["llama"]},
        {"text_config": 7},
    ],
)
def test_a_configuration_that_does_not_say_tells_nothing(config: dict[str, object]) -> None:
    assert shapes_from_config(config) == {}


def test_a_lying_number_of_layers_is_bounded() -> None:
    shapes = shapes_from_config({"model_type": "llama", **DECODER, "num_hidden_layers": 1 << 30})
    assert len(shapes) == 1024 * 7


def test_experts_are_left_to_what_is_pushed() -> None:
    shapes = shapes_from_config({"model_type": "mixtral", **GROUPED, "num_local_experts": 4})
    assert len(shapes) == 8
    assert not [module for module in shapes if "mlp" in module]


def test_the_language_part_of_a_larger_model_counts() -> None:
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **WIDE}}
    assert shapes_from_config(config)["layers.1.self_attn.q_proj"] == (64, 32)
