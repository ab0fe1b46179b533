"""Make one small adapter of every PEFT type, saved by PEFT itself.

`make_adapter("LORA", folder, seed=0)` trains nothing: it puts PEFT's own adapter on a two-layer
Llama of width 32, moves every adapter value by a little noise (so that no factor stays zero) and
calls `save_pretrained`. `make_base` gives the base model to load the adapter onto. Types that
cannot be saved from such a model stand in `UNBUILDABLE` with the reason.
Importing this module needs only the standard library; making an adapter needs torch and peft.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEFT_TYPES: list[str] = [
    "ADALORA",
    "ADAMSS",
    "ADAPTION_PROMPT",
    "BEFT",
    "BOFT",
    "C3A",
    "CARTRIDGE",
    "CPT",
    "DEFT",
    "DELORA",
    "FOURIERFT",
    "FROD",
    "GLORA",
    "GRALORA",
    "HIRA",
    "HRA",
    "IA3",
    "LILY",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "LORA",
    "MISS",
    "MULTITASK_PROMPT_TUNING",
    "OFT",
    "OSF",
    "PEANUT",
    "POLY",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "PSOFT",
    "PVERA",
    "P_TUNING",
    "RANDLORA",
    "ROAD",
    "SHADOW",
    "SHIRA",
    "SUPERTUNING",
    "TINYLORA",
    "TRAINABLE_TOKENS",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
    "XLORA",
]

UNBUILDABLE: dict[str, str] = (
    {}
    if find_spec("sklearn")
    else {"ADAMSS": "peft clusters with scikit-learn, which is not installed"}
)

BASE_NAME = "tiny-llama"

_ATTENTION = ["q_proj", "v_proj"]
_PROMPT: dict[str, Any] = {"num_virtual_tokens": 4}
_OPTIONS: dict[str, dict[str, Any]] = {
    "ADALORA": {"r": 4, "total_step": 100, "tinit": 10, "tfinal": 10},
    "ADAMSS": {"r": 8, "num_subspaces": 2},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "C3A": {"block_size": 8},
    "CARTRIDGE": _PROMPT,
    "CPT": {
        "cpt_token_ids": [0, 1, 2, 3],
        "cpt_mask": [1, 1, 1, 1],
        "cpt_tokens_type_mask": [1, 2, 3, 4],
    },
    "FOURIERFT": {"n_frequency": 16},
    "FROD": {"progressbar": False},
    "GRALORA": {"r": 4},
    "HIRA": {"r": 4},
    "IA3": {
        "target_modules": ["k_proj", "v_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
    },
    "LILY": {"r": 4},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "LORA": {"r": 4, "lora_alpha": 8},
    "MISS": {"r": 4},
    "MULTITASK_PROMPT_TUNING": {**_PROMPT, "num_tasks": 2},
    "OFT": {"oft_block_size": 8},
    "OSF": {"effective_rank": 8},
    "PEANUT": {"r": 4},
    "PREFIX_TUNING": _PROMPT,
    "PROMPT_TUNING": _PROMPT,
    "PSOFT": {"r": 4},
    "PVERA": {"r": 4},
    "P_TUNING": {**_PROMPT, "encoder_hidden_size": 16},
    "RANDLORA": {"r": 4},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 4},
    "SUPERTUNING": {"sparsity": 0.9},
    "TINYLORA": {"r": 2, "u": 8},
    "TRAINABLE_TOKENS": {"token_indices": [1, 3], "target_modules": ["embed_tokens"]},
    "UNILORA": {"r": 4, "theta_d_length": 32},
    "VBLORA": {"r": 4, "num_vectors": 8, "vector_length": 16},
    "VERA": {"r": 4},
    "WAVEFT": {"n_frequency": 16},
}
_WITHOUT_TARGETS = {
    "ADAPTION_PROMPT",
    "CARTRIDGE",
    "CPT",
    "MULTITASK_PROMPT_TUNING",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "P_TUNING",
    "SHADOW",
    "XLORA",
}


def make_base(seed: int = 0) -> Any:
    """Make the tiny Llama that every adapter here is for (32 wide, two layers, 64 tokens)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        attention_bias=True,
    )
    config.name_or_path = BASE_NAME
    model: Any = LlamaForCausalLM(config)
    model.config.name_or_path = BASE_NAME
    return model.eval()


def make_adapter(peft_type: str, folder: Path, seed: int = 0, **options: Any) -> None:
    """Save a small adapter of `peft_type` into `folder` as PEFT writes it.

    Args:
        peft_type: one of `PEFT_TYPES`.
        folder: where `adapter_config.json` and `adapter_model.safetensors` go.
        seed: decides the noise on the adapter's values.
        options: fields of PEFT's config class that replace the ones of this zoo.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _adapted(peft_type, folder, seed, options)
        _disturb(model, seed)
        model.save_pretrained(str(folder), save_embedding_layers=False)


def logits(folder: Path) -> Any:
    """Load an adapter onto the tiny base and run it."""
    import torch
    from peft import PeftModel

    model = PeftModel.from_pretrained(make_base(), folder)
    model.eval()
    with torch.no_grad():
        out = model(input_ids=torch.arange(10)[None])
    return out.logits.numpy()


def _adapted(peft_type: str, folder: Path, seed: int, options: dict[str, Any]) -> Any:
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    settings: dict[str, Any] = {"task_type": "CAUSAL_LM", **_OPTIONS.get(peft_type, {}), **options}
    if peft_type not in _WITHOUT_TARGETS:
        settings.setdefault("target_modules", list(_ATTENTION))
    base = make_base()
    if peft_type == "XLORA":
        experts = folder.parent / f"{folder.name}-xlora-expert"
        make_adapter("LORA", experts, seed)
        settings |= {"hidden_size": 32, "xlora_size": 16}
        settings |= {"adapters": {"0": str(experts)}}
        base.config.use_cache = False
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)](**settings)
    return peft.get_peft_model(base, config)


def _disturb(model: Any, seed: int) -> None:
    import torch

    noise = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
