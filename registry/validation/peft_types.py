"""Know every adapter type of PEFT 0.21: how its tensors are named and what of it compresses.

One row per type. `markers` begin words of tensor names, one of which every adapter tensor carries;
what carries none is a head, a bias or something that does not belong. `compresses` are the words of
tensor names that form a task vector; the rest of an adapter is kept exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PeftTypeRow:
    """Describe one adapter type.

    Attributes:
        name: as `peft_type` spells it.
        markers: beginnings of words; one of them stands in the name of every adapter tensor.
        compresses: dot-separated words of tensor names that mark the task vector; empty where
            the type has none.
        why_kept: why there is none, or empty.
    """

    name: str
    markers: tuple[str, ...]
    compresses: frozenset[str] = frozenset()
    why_kept: str = ""


def _row(name: str, markers: str, words: str = "", why_kept: str = "") -> PeftTypeRow:
    return PeftTypeRow(name, tuple(markers.split()), frozenset(words.split()), why_kept)


_LORA_WORDS = "lora_A lora_B lora_embedding_A lora_embedding_B"
_PROMPT = "a learnt prompt has no initial value that leaves the base as it is"
_BASE = "its initial value is in the base model"
_DIRECTION = "its exact directions matter"

_ROWS = (
    _row("LORA", "lora_ trainable_tokens_", _LORA_WORDS),
    _row("ADALORA", "lora_", _LORA_WORDS),
    _row("LOHA", "hada_", "hada_w1_a hada_w2_a hada_w1_b hada_w2_b hada_t1 hada_t2"),
    _row("LOKR", "lokr_", "lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2"),
    _row("IA3", "ia3_", "ia3_l"),
    _row("OFT", "oft_", "oft_R oft_embedding_R"),
    _row("BOFT", "boft_", "boft_R boft_s"),
    _row("HIRA", "hira_", "hira_A hira_embedding_A hira_B hira_embedding_B"),
    _row("DELORA", "delora_", "delora_A delora_B"),
    _row("GRALORA", "gralora_", "gralora_A gralora_A_general gralora_B gralora_B_general"),
    _row("POLY", "poly_", "poly_lora_A poly_lora_B"),
    _row("LILY", "lily_", "lily_A lily_B"),
    _row("ADAMSS", "adamss_", "adamss_A adamss_B"),
    _row("PEANUT", "peanut_", "peanut_A peanut_B"),
    _row("GLORA", "glora_", "glora_A glora_B glora_C glora_D glora_E"),
    _row("SUPERTUNING", "supertuning_", "supertuning_values supertuning_lora_A supertuning_lora_B"),
    _row("SHIRA", "shira_", "shira_weight"),
    _row("FOURIERFT", "fourierft_", "fourierft_spectrum"),
    _row("WAVEFT", "waveft_", "waveft_spectrum"),
    _row("C3A", "c3a_", "c3a_kernel"),
    _row("MISS", "miss_", "miss_block"),
    _row("BEFT", "beft_", "beft_bias"),
    _row("ROAD", "road_", "road_theta road_alpha"),
    _row("VERA", "vera_", "vera_lambda_b"),
    _row("PVERA", "pvera_", "pvera_lambda_b"),
    _row("RANDLORA", "randlora_", "randlora_lambda"),
    _row("FROD", "frod_", "frod_lambda_s_values"),
    _row("VBLORA", "vblora_", why_kept="its logits choose from a bank"),
    _row("UNILORA", "unilora_", why_kept="one shared vector feeds every factor"),
    _row("TINYLORA", "tinylora_", why_kept="it is a handful of numbers"),
    _row("HRA", "hra_", why_kept=_DIRECTION),
    _row("DEFT", "deft_", why_kept=_DIRECTION),
    _row("PSOFT", "psoft_", why_kept=_DIRECTION),
    _row("OSF", "osf_", why_kept=_BASE),
    _row("LN_TUNING", "ln_tuning_", why_kept=_BASE),
    _row("TRAINABLE_TOKENS", "trainable_tokens_", why_kept=_BASE),
    _row("SHADOW", "shadow_", why_kept="it is a whole small network"),
    _row(
        "XLORA",
        "internal_xlora_classifier xlora_ lora_",
        why_kept="it is a gate over other adapters",
    ),
    _row("CARTRIDGE", "prompt_embeddings cartridge_", why_kept=_PROMPT),
    _row("CPT", "prompt_embeddings cpt_", why_kept=_PROMPT),
    _row("PROMPT_TUNING", "prompt_embeddings", why_kept=_PROMPT),
    _row("MULTITASK_PROMPT_TUNING", "prompt_embeddings prefix_task_", why_kept=_PROMPT),
    _row("P_TUNING", "prompt_embeddings", why_kept=_PROMPT),
    _row("PREFIX_TUNING", "prompt_embeddings", why_kept=_PROMPT),
    _row("ADAPTION_PROMPT", "adaption_", why_kept=_PROMPT),
)

PEFT_TYPES: Mapping[str, PeftTypeRow] = MappingProxyType({row.name: row for row in _ROWS})
"""Every adapter type of PEFT 0.21 by its spelling in `adapter_config.json`."""
