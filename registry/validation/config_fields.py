"""Check single fields of an adapter's configuration: one checker per field of PEFT 0.21.

A checker takes a JSON value, returns what we keep of it or raises `FieldValueError`. Fields that we
know but never act on have `_opaque`, which keeps nothing: the file itself stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from registry.validation.reasons import Reason
from registry.validation.strict_json import Json

Value: TypeAlias = "bool | int | float | str | tuple[str, ...] | dict[str, float] | None"
Checker: TypeAlias = Callable[[Json], Value]

MAX_PATTERN_CHARS = 512
_MAX_TEXT_CHARS = 1024
_MAX_NAMES = 20_000
_MAX_RANK = 1 << 20


class FieldValueError(ValueError):
    """Say what a field should have been."""

    def __init__(self, expected: str, reason: Reason = Reason.CONFIG_TYPE) -> None:
        super().__init__(expected)
        self.expected = expected
        self.reason = reason


def _opaque(value: Json) -> Value:  # noqa: ARG001 - it is deliberately not looked at
    return None


def _boolean(value: Json) -> Value:
    if value is None or isinstance(value, bool):
        return value
    raise FieldValueError("true, false or null")


def _text(value: Json, *, max_chars: int = _MAX_TEXT_CHARS) -> Value:
    if value is None:
        return None
    if not isinstance(value, str):
        raise FieldValueError("a string or null")
    if len(value) > max_chars:
        raise FieldValueError(f"at most {max_chars} characters", Reason.CONFIG_RANGE)
    if any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in value):
        raise FieldValueError("a string without control characters", Reason.CONFIG_RANGE)
    return value


def _names(value: Json) -> Value:
    if not isinstance(value, list):
        raise FieldValueError("a list of strings or null")
    if len(value) > _MAX_NAMES:
        raise FieldValueError(f"at most {_MAX_NAMES} names", Reason.CONFIG_RANGE)
    checked = [_text(name, max_chars=MAX_PATTERN_CHARS) for name in value]
    names = tuple(name for name in checked if isinstance(name, str))
    if len(names) != len(value):
        raise FieldValueError("a list of strings or null")
    return names


def _pattern_or_names(value: Json) -> Value:
    if value is None or isinstance(value, str):
        return _text(value, max_chars=MAX_PATTERN_CHARS)
    if isinstance(value, list):
        return _names(value)
    raise FieldValueError("a string, a list of strings or null")


def _whole(value: Json, *, low: int = 0, high: int = _MAX_RANK) -> Value:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldValueError("a whole number or null")
    if not low <= value <= high:
        raise FieldValueError(f"a whole number from {low} to {high}", Reason.CONFIG_RANGE)
    return value


def _number(value: Json, *, low: float = -1e12, high: float = 1e12) -> Value:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FieldValueError("a number or null")
    if not low <= value <= high:
        raise FieldValueError(f"a number from {low:g} to {high:g}", Reason.CONFIG_RANGE)
    return value


def _number_map(value: Json, *, low: float) -> Value:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise FieldValueError("an object of pattern to number, or null")
    kept: dict[str, float] = {}
    for pattern, entry in value.items():
        _text(pattern, max_chars=MAX_PATTERN_CHARS)
        if isinstance(entry, list):  # AdaLoRA lists the components that it kept
            continue
        number = _number(entry, low=low)
        if not isinstance(number, int | float):
            raise FieldValueError("an object of pattern to number, or null")
        kept[pattern] = number
    return kept


def _object(value: Json) -> Value:
    if value is None or isinstance(value, dict):
        return bool(value)
    raise FieldValueError("an object or null")


_rate = partial(_number, low=0.0, high=1.0)
_rank_map = partial(_number_map, low=0.0)
_alpha_map = partial(_number_map, low=-1e12)

_CHECKED: dict[str, Checker] = {
    "peft_type": partial(_text, max_chars=64),
    "task_type": partial(_text, max_chars=64),
    "peft_version": partial(_text, max_chars=64),
    "base_model_name_or_path": _text,
    "revision": _text,
    "auto_mapping": _object,
    "inference_mode": _boolean,
    "r": _whole,
    "alpha": _number,
    "lora_alpha": _number,
    "lora_dropout": _rate,
    "rank_pattern": _rank_map,
    "alpha_pattern": _alpha_map,
    "target_modules": _pattern_or_names,
    "exclude_modules": _pattern_or_names,
    "feedforward_modules": _pattern_or_names,
    "layers_pattern": _pattern_or_names,
    "modules_to_save": _pattern_or_names,
    "target_parameters": _pattern_or_names,
    "bias": partial(_text, max_chars=64),
    "fan_in_fan_out": _boolean,
    "lora_bias": _boolean,
    "use_dora": _boolean,
    "use_rslora": _boolean,
    "use_qalora": _boolean,
    "num_virtual_tokens": _whole,
    "token_dim": partial(_whole, high=1 << 31),
    "num_attention_heads": _whole,
    "num_layers": _whole,
    "num_transformer_submodules": _whole,
    "total_step": partial(_whole, high=1 << 40),
}

_NEVER_ACTED_ON = """
ab_svd_init act_fn adapter_layers adapter_len adapters alora_invocation_tokens apply_GS arrow_config
asa_importance_beta asa_schedule_exponent asa_target_subspaces asa_uncertainty_beta
auxiliary_loss_weight beta1 beta2 block_share block_size block_size_pattern boft_block_num
boft_block_size boft_dropout boft_n_butterfly_factor cayley_neumann_eps coft config_A_B config_C
config_D_E corda_config cpt_mask cpt_token_ids cpt_tokens_type_mask d_initial decompose_both
decompose_factor decomposition_method deft_dropout delora_lambda deltaT depth effective_rank
enable_softmax enable_softmax_topk encoder_dropout encoder_hidden_size encoder_num_layers
encoder_reparameterization_type ensure_weight_tying eps eva_config final_warmup frod_dropout
generator_seed global_scaling_weight gralora_dropout gralora_k group_size hidden_size hira_dropout
hybrid_r init_ia3_weights init_logits_std init_lora_weights init_r init_scale init_theta_d_bound
init_v_bound init_vector_bank_bound init_warmup init_weights kasa_config lambda_pattern
layer_replication layers_to_transform layerwise_scalings loftq_config lora_ga_config mask_interval
mask_type megatron_config megatron_core mini_r miss_dropout module_dropout monteclora_config
n_frequency n_frequency_pattern n_skills n_splits n_tasks num_B num_cayley_neumann_terms
num_frozen_tokens num_ranks num_subspaces num_tasks num_vectors oft_block_size
opt_loss_decay_factor opt_projection_epsilon opt_projection_format_epsilon opt_weighted_loss_type
orth_reg_weight para poly_type prefix_projection progressbar proj_seed projection_prng_key
projection_seed prompt_tuning_init prompt_tuning_init_state_dict_path prompt_tuning_init_task
prompt_tuning_init_text proportional_parameters psoft_alpha psoft_dropout psoft_mag_a psoft_mag_b
psoft_orth psoft_svd psoft_svd_lowrank_niter pvera_dropout qalora_group_size randlora_alpha
randlora_dropout random_loc_seed random_seed rank_dropout rank_dropout_scale regularization_alpha
runtime_config runtime_offload_base_weight sample_at_inference save_indices save_only_topk_weights
save_precomputed_indices save_projection scaling scaling_pass_value select_top shadow_alpha
shadow_dropout shadow_hidden_size shadow_intermediate_size shadow_model shadow_num_attention_heads
shadow_num_hidden_layers share_embeddings softmax_temperature sparse sparse_rate sparsity stride_A
subspace_rank svd_threshold target_r target_svd_config tfinal theta_d_length tinit tinylora_dropout
token_indices tokenizer_kwargs tokenizer_name_or_path top_k_lora topk trainable_token_indices u
unilora_dropout update_hidden_size use_asa use_bdlora use_cayley_neumann use_dynamic_rank
use_effective_conv2d use_idwt use_trainable_adapters variant vblora_dropout vector_length
velora_config vera_dropout very_sparse wavelet_family weight_tying xlora_depth xlora_dropout_p
xlora_size
"""

FIELDS: Mapping[str, Checker] = MappingProxyType(
    {**dict.fromkeys(_NEVER_ACTED_ON.split(), _opaque), **_CHECKED}
)
"""The checker of every field that a configuration class of PEFT 0.21 has."""
