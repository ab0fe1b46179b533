"""Tell the shapes of a base model's linear modules, from its configuration or from what is pushed.

A module's path is cut down to what every wrapper of the model agrees on (`bert.encoder.layer.0…`
and `encoder.layer.0…` are one). Heads and embeddings are left out: their size belongs to the task
and the tokenizer. The families below are those whose layout follows from the configuration; the
shapes of any other base are learned from pushes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from registry.catalog.errors import BaseShapeError

Shape: TypeAlias = tuple[int, int]
Config: TypeAlias = Mapping[str, object]
_WRAPPERS = frozenset(
    {"base_model", "model", "transformer", "language_model", "bert", "roberta", "distilbert"}
    | {"xlm_roberta", "camembert", "electra", "deberta", "gpt_neox", "text_model"}
)
_OF_THE_TASK = re.compile(
    r"(?:^|\.)(?:classifier|score|qa_outputs|pre_classifier|lm_head|cls|embed_out|summary"
    r"|classification_head|.*embed.*|wte|wpe|shared|modules_to_save|original_module)(?:\.|$)"
)
MAX_LAYERS = 1024


def module_path(path: str) -> str:
    """Return a module's path without the names of the classes that wrap the model."""
    parts = path.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def base_modules(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Keep of a push's module shapes what belongs to its base model, by cut-down path."""
    return {
        module_path(path): shape
        for path, shape in sorted(shapes.items())
        if not _OF_THE_TASK.search(path)
    }


def join_shapes(
    base: str, known: Mapping[str, Shape], new: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Return those of the new shapes that are not known yet.

    Raises:
        BaseShapeError: one of them contradicts what is known.
    """
    for module in sorted(new):
        if known.get(module, new[module]) != new[module]:
            raise BaseShapeError(base, module, expected=known[module], actual=new[module])
    return {module: shape for module, shape in new.items() if module not in known}


def shapes_from_config(config: Config) -> dict[str, Shape]:
    """Return the shapes that a model's configuration implies; empty for an unknown family."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    family = _FAMILIES.get(str(text.get("model_type") or config.get("model_type")))
    try:
        return dict(family(text)) if family else {}
    except (_NotSaidError, ZeroDivisionError):
        return {}


class _NotSaidError(Exception):
    """Say that a configuration lacks a number that the layout needs."""


def _number(config: Config, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            return value
    raise _NotSaidError(names[0])


def _layers(config: Config, *names: str) -> range:
    return range(min(_number(config, *names), MAX_LAYERS))


def _optional(config: Config, name: str, otherwise: int) -> int:
    try:
        return _number(config, name)
    except _NotSaidError:
        return otherwise


Shapes: TypeAlias = Iterator[tuple[str, Shape]]


def _llama(config: Config) -> Shapes:
    """Serve the decoders with separate q, k, v, gate, up and down projections."""
    hidden = _number(config, "hidden_size")
    heads = _number(config, "num_attention_heads")
    keys = _optional(config, "num_key_value_heads", heads)
    width = _optional(config, "head_dim", hidden // heads)
    dense = not any(name in config for name in ("num_local_experts", "num_experts"))
    for layer in _layers(config, "num_hidden_layers"):
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        yield f"{attention}.q_proj", (heads * width, hidden)
        yield f"{attention}.k_proj", (keys * width, hidden)
        yield f"{attention}.v_proj", (keys * width, hidden)
        yield f"{attention}.o_proj", (hidden, heads * width)
        if dense:
            inner = _number(config, "intermediate_size")
            yield f"{mlp}.gate_proj", (inner, hidden)
            yield f"{mlp}.up_proj", (inner, hidden)
            yield f"{mlp}.down_proj", (hidden, inner)


def _phi3(config: Config) -> Shapes:
    hidden, inner = _number(config, "hidden_size"), _number(config, "intermediate_size")
    heads = _number(config, "num_attention_heads")
    keys = _optional(config, "num_key_value_heads", heads)
    width = _optional(config, "head_dim", hidden // heads)
    for layer in _layers(config, "num_hidden_layers"):
        yield f"layers.{layer}.self_attn.qkv_proj", ((heads + 2 * keys) * width, hidden)
        yield f"layers.{layer}.self_attn.o_proj", (hidden, heads * width)
        yield f"layers.{layer}.mlp.gate_up_proj", (2 * inner, hidden)
        yield f"layers.{layer}.mlp.down_proj", (hidden, inner)


def _phi(config: Config) -> Shapes:
    hidden, inner = _number(config, "hidden_size"), _number(config, "intermediate_size")
    heads = _number(config, "num_attention_heads")
    keys = _optional(config, "num_key_value_heads", heads)
    width = hidden // heads
    for layer in _layers(config, "num_hidden_layers"):
        yield f"layers.{layer}.self_attn.q_proj", (heads * width, hidden)
        yield f"layers.{layer}.self_attn.k_proj", (keys * width, hidden)
        yield f"layers.{layer}.self_attn.v_proj", (keys * width, hidden)
        yield f"layers.{layer}.self_attn.dense", (hidden, heads * width)
        yield f"layers.{layer}.mlp.fc1", (inner, hidden)
        yield f"layers.{layer}.mlp.fc2", (hidden, inner)


def _gpt2(config: Config) -> Shapes:
    hidden = _number(config, "n_embd", "hidden_size")
    inner = _optional(config, "n_inner", 4 * hidden)
    for layer in _layers(config, "n_layer", "num_hidden_layers"):
        yield f"h.{layer}.attn.c_attn", (3 * hidden, hidden)
        yield f"h.{layer}.attn.c_proj", (hidden, hidden)
        yield f"h.{layer}.mlp.c_fc", (inner, hidden)
        yield f"h.{layer}.mlp.c_proj", (hidden, inner)


def _bert(config: Config) -> Shapes:
    hidden, inner = _number(config, "hidden_size"), _number(config, "intermediate_size")
    for layer in _layers(config, "num_hidden_layers"):
        block = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield f"{block}.attention.self.{name}", (hidden, hidden)
        yield f"{block}.attention.output.dense", (hidden, hidden)
        yield f"{block}.intermediate.dense", (inner, hidden)
        yield f"{block}.output.dense", (hidden, inner)


def _distilbert(config: Config) -> Shapes:
    hidden, inner = _number(config, "dim"), _number(config, "hidden_dim")
    for layer in _layers(config, "n_layers"):
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield f"layer.{layer}.attention.{name}", (hidden, hidden)
        yield f"layer.{layer}.ffn.lin1", (inner, hidden)
        yield f"layer.{layer}.ffn.lin2", (hidden, inner)


def _t5(config: Config) -> Shapes:
    hidden, inner = _number(config, "d_model"), _number(config, "d_ff")
    width = _number(config, "num_heads") * _number(config, "d_kv")
    gated = "gated" in str(config.get("feed_forward_proj"))
    layers = _layers(config, "num_layers")
    decoder = range(min(_optional(config, "num_decoder_layers", len(layers)), MAX_LAYERS))
    for side, blocks in (("encoder", layers), ("decoder", decoder)):
        attentions = ["layer.0.SelfAttention"]
        attentions += ["layer.1.EncDecAttention"] if side == "decoder" else []
        for index in blocks:
            block = f"{side}.block.{index}"
            for attention in attentions:
                for name in ("q", "k", "v"):
                    yield f"{block}.{attention}.{name}", (width, hidden)
                yield f"{block}.{attention}.o", (hidden, width)
            mlp = f"{block}.layer.{len(attentions)}.DenseReluDense"
            for name in ("wi_0", "wi_1") if gated else ("wi",):
                yield f"{mlp}.{name}", (inner, hidden)
            yield f"{mlp}.wo", (hidden, inner)


def _opt(config: Config) -> Shapes:
    hidden, inner = _number(config, "hidden_size"), _number(config, "ffn_dim")
    for layer in _layers(config, "num_hidden_layers"):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"decoder.layers.{layer}.self_attn.{name}", (hidden, hidden)
        yield f"decoder.layers.{layer}.fc1", (inner, hidden)
        yield f"decoder.layers.{layer}.fc2", (hidden, inner)


def _fused(container: str, attention: str, *, width: str) -> Callable[[Config], Shapes]:
    """Serve the decoders with one matrix for q, k and v: GPT-NeoX, BLOOM and Falcon."""

    def shapes(config: Config) -> Shapes:
        hidden = _number(config, "hidden_size", "n_embed")
        inner = _optional(config, width, 4 * hidden)
        qkv = _fused_width(config, hidden)
        for layer in _layers(config, "num_hidden_layers", "n_layer"):
            block = f"{container}.{layer}"
            yield f"{block}.{attention}.query_key_value", (qkv, hidden)
            yield f"{block}.{attention}.dense", (hidden, hidden)
            yield f"{block}.mlp.dense_h_to_4h", (inner, hidden)
            yield f"{block}.mlp.dense_4h_to_h", (hidden, inner)

    return shapes


def _fused_width(config: Config, hidden: int) -> int:
    if config.get("model_type") != "falcon":
        return 3 * hidden
    width = hidden // _number(config, "num_attention_heads", "n_head")
    if config.get("new_decoder_architecture"):
        return hidden + 2 * width * _number(config, "num_kv_heads", "n_head_kv")
    return hidden + 2 * width if config.get("multi_query", True) else 3 * hidden


_FAMILIES: dict[str, Callable[[Config], Shapes]] = (
    dict.fromkeys(
        ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"), _llama
    )
    | dict.fromkeys(("gemma3_text", "smollm3", "granite", "olmo", "olmo2", "stablelm"), _llama)
    | dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _bert)
    | dict.fromkeys(("t5", "mt5", "umt5"), _t5)
    | {"phi": _phi, "phi3": _phi3, "gpt2": _gpt2, "distilbert": _distilbert, "opt": _opt}
    | {
        "gpt_neox": _fused("layers", "attention", width="intermediate_size"),
        "bloom": _fused("h", "self_attention", width=""),
        "falcon": _fused("h", "self_attention", width="ffn_hidden_size"),
    }
)
