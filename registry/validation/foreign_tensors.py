"""Say what the tensors are that carry no mark of their adapter's type.

Trained heads and biases belong to an adapter; copies of base weights, embeddings and frozen
originals are saved by accident and make it many times larger. All are accepted, named and measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.validation.checked_weights import CheckedWeights, size_of, some
from registry.validation.findings import Finding, FindingCode
from registry.validation.lora_keys import module_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.validation.safetensors_header import TensorInfo

_PEFT_DEFAULT_HEADS = frozenset({"classifier", "score"})
_EMBEDDINGS = frozenset(
    {"embed_tokens", "lm_head", "wte", "wpe", "word_embeddings", "embeddings", "embed_in",
     "embed_out", "shared"}
)  # fmt: skip
_HEADS = frozenset({"classifier", "pre_classifier", "score", "qa_outputs", "head", "cls", "v_head"})


def check_other_tensors(weights: CheckedWeights) -> Iterator[Finding]:
    """Yield what is odd about the tensors that are no adapter tensors."""
    groups: dict[FindingCode, list[TensorInfo]] = {}
    for tensor in weights.other_tensors:
        code = _judge(weights, tensor)
        if code is not None:
            groups.setdefault(code, []).append(tensor)
    for code, tensors in groups.items():
        what, hint = _TEXTS[code]
        names = [module_name(tensor.name) for tensor in tensors]
        yield weights.finding(
            code,
            names[0],
            f"{len(tensors)} {what} ({size_of(tensors)}): {some(names)}",
            hint,
        )
    yield from _missing_heads(weights)


def is_saved_module(name: str, modules_to_save: tuple[str, ...]) -> bool:
    """Return whether a tensor lies in a module that PEFT saves whole.

    PEFT compares the end of a module's path with each name: `classifier` covers `pre_classifier`.
    """
    segments = name.split(".")
    paths = [".".join(segments[:length]) for length in range(1, len(segments))]
    return any(path.endswith(target) for path in paths for target in modules_to_save)


def _judge(weights: CheckedWeights, tensor: TensorInfo) -> FindingCode | None:
    """Return what a tensor is, or None for a module that was meant to be saved."""
    name = module_name(tensor.name)
    words = frozenset(name.split("."))
    is_bias = name.endswith(".bias") and weights.config.bias != "none"
    rules = (
        ("original_module" in words, FindingCode.ORIGINAL_MODULES_INCLUDED),
        (is_bias, FindingCode.BIAS_TENSORS),
        (is_saved_module(name, weights.config.modules_to_save), None),
        (bool(words & _EMBEDDINGS), FindingCode.EMBEDDINGS_INCLUDED),
        ("base_layer" in words, FindingCode.BASE_WEIGHTS_INCLUDED),
        (bool(words & _HEADS), FindingCode.HEADS_NOT_DECLARED),
    )
    return next((code for applies, code in rules if applies), FindingCode.EXTRA_TENSORS)


def _missing_heads(weights: CheckedWeights) -> Iterator[Finding]:
    declared = set(weights.config.modules_to_save)
    names = [module_name(tensor.name) for tensor in weights.header]
    found = {head for head in declared if any(is_saved_module(n, (head,)) for n in names)}
    missing = declared - found
    if found & _PEFT_DEFAULT_HEADS:  # PEFT declares both, a model has one of them
        missing -= _PEFT_DEFAULT_HEADS
    if missing:
        yield weights.finding(
            FindingCode.HEADS_NOT_SAVED,
            "modules_to_save",
            f"modules_to_save names {some(sorted(missing))}, of which there are no weights",
            "a head that was trained is lost: save the adapter again if the task needs it",
        )


_TEXTS: dict[FindingCode, tuple[str, str]] = {
    FindingCode.ORIGINAL_MODULES_INCLUDED: (
        "frozen originals of saved modules are included",
        "they are copies of the base model's weights; PEFT does not need them",
    ),
    FindingCode.BIAS_TENSORS: (
        "bias tensors are saved with the adapter",
        "they are kept exactly and replace the base model's biases",
    ),
    FindingCode.EMBEDDINGS_INCLUDED: (
        "embedding tensors are included",
        "pass save_embedding_layers=False to `save_pretrained` unless the vocabulary was resized",
    ),
    FindingCode.BASE_WEIGHTS_INCLUDED: (
        "base weights are included",
        "save the adapter with `save_pretrained` of the PeftModel, not the whole state dict",
    ),
    FindingCode.HEADS_NOT_DECLARED: (
        "tensors of a head are saved, though modules_to_save does not name it",
        "PEFT ignores them when it loads; name the head in modules_to_save to use it",
    ),
    FindingCode.EXTRA_TENSORS: (
        "tensors belong neither to the adapter nor to a declared module",
        "they are kept; PEFT ignores them when it loads",
    ),
}
