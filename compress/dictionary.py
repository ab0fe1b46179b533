"""Give deflate the words that adapters have in common, so that small files stay small.

`WORDS` is part of version 1 of the `.tern` format and never changes: a preset dictionary (RFC 1950)
of usual tensor-name endings and of the config that PEFT writes. Later text is cheaper to refer to.
"""

from __future__ import annotations

import zlib

from compress.errors import TernDamagedError

_NAMES = """.ia3_l
.hada_w1_a
.hada_w1_b
.hada_w2_a
.hada_w2_b
.lokr_w1
.lokr_w2_a
.lokr_w2_b
.oft_R.weight
.vera_lambda_b
.vera_lambda_d
.lora_E
.lora_embedding_A
.lora_embedding_B
.lora_magnitude_vector
.lora_down.weight
.lora_up.weight
.alpha
lora_unet_down_blocks_\0_attentions_\0_transformer_blocks_\0_attn\0_to_k
lora_te_text_model_encoder_layers_\0_self_attn_q_proj
down_blocks.\0.attentions.\0.transformer_blocks.\0.attn\0.processor.to_out_lora.down.weight
mid_block.attentions.\0.transformer_blocks.\0.attn\0.processor.to_q_lora.up.weight
up_blocks.\0.attentions.\0.transformer_blocks.\0.attn\0.processor.to_v_lora.down.weight
text_encoder:\0:down
text_encoder:\0:up
unet:\0:down
unet:\0:up
base_model.model.encoder.block.\0.layer.\0.SelfAttention.q.lora_A.weight
base_model.model.encoder.layer.\0.attention.self.query.lora_B.weight
base_model.model.transformer.h.\0.attn.c_attn.lora_A.weight
base_model.model.transformer.h.\0.mlp.c_proj.lora_B.weight
base_model.model.distilbert.transformer.layer.\0.attention.q_lin.lora_A.weight
base_model.model.distilbert.transformer.layer.\0.attention.v_lin.lora_B.weight
base_model.model.roberta.encoder.layer.\0.intermediate.dense.bias
base_model.model.roberta.encoder.layer.\0.output.LayerNorm.bias
base_model.model.bert.encoder.layer.\0.attention.output.dense.lora_A.weight
base_model.model.bert.encoder.layer.\0.attention.self.key.lora_A.weight
base_model.model.bert.encoder.layer.\0.attention.self.value.lora_B.weight
base_model.model.classifier.modules_to_save.out_proj.bias
base_model.model.classifier.original_module.dense.weight
base_model.model.pre_classifier.bias
base_model.model.classifier.bias
base_model.model.classifier.weight
base_model.model.score.weight
base_model.model.lm_head.weight
base_model.model.model.embed_tokens.weight
base_model.model.model.layers.\0.mlp.down_proj.lora_A.weight
base_model.model.model.layers.\0.mlp.down_proj.lora_B.weight
base_model.model.model.layers.\0.mlp.gate_proj.lora_A.weight
base_model.model.model.layers.\0.mlp.up_proj.lora_B.weight
base_model.model.model.layers.\0.self_attn.k_proj.lora_A.weight
base_model.model.model.layers.\0.self_attn.k_proj.lora_B.weight
base_model.model.model.layers.\0.self_attn.o_proj.lora_A.weight
base_model.model.model.layers.\0.self_attn.q_proj.lora_B.weight
base_model.model.model.layers.\0.self_attn.v_proj.lora_A.weight
base_model.model.model.layers.\0.self_attn.v_proj.lora_B.weight
adapter_model.safetensors"""

_CONFIG = """  "use_qalora": true
  "bias": "lora_only"
  "bias": "all"
  "loraplus_lr_ratio": null
  "peft_type": "IA3"
  "feedforward_modules": []
  "task_type": "SEQ_2_SEQ_LM"
  "task_type": "TOKEN_CLS"
  "task_type": "FEATURE_EXTRACTION"
  "use_rslora": true
  "use_dora": true
  "fan_in_fan_out": true
  "init_lora_weights": "gaussian"
  "target_modules": "all-linear"
    "query_key_value"
    "attention.output.dense"
    "intermediate.dense"
    "output.dense"
    "query"
    "key"
    "value"
    "c_attn"
    "c_proj"
    "q_lin"
    "v_lin"
    "q"
    "v"
    "gate_proj"
    "up_proj"
    "down_proj"
    "o_proj"
    "k_proj"
    "q_proj"
    "v_proj"
    "base_model_class": "BertForSequenceClassification"
    "parent_library": "transformers.models.bert.modeling_bert"
  "base_model_name_or_path": "sentence-transformers/all-MiniLM-L6-v2"
  "base_model_name_or_path": "distilbert-base-uncased"
  "base_model_name_or_path": "roberta-base"
  "base_model_name_or_path": "gpt2"
  "base_model_name_or_path": "google/flan-t5-small"
  "base_model_name_or_path": "meta-llama/Llama-3.2-1B"
{
  "alora_invocation_tokens": null,
  "alpha_pattern": {},
  "arrow_config": null,
  "auto_mapping": null,
  "base_model_name_or_path": "",
  "bias": "none",
  "corda_config": null,
  "ensure_weight_tying": false,
  "eva_config": null,
  "exclude_modules": null,
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "kasa_config": null,
  "layer_replication": null,
  "layers_pattern": null,
  "layers_to_transform": null,
  "loftq_config": {},
  "lora_alpha": 16,
  "lora_bias": false,
  "lora_dropout": 0.05,
  "lora_ga_config": null,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": [
    "classifier",
    "score"
  ],
  "modules_to_save": null,
  "monteclora_config": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "qalora_group_size": 16,
  "r": 8,
  "rank_pattern": {},
  "revision": null,
  "target_modules": [
    "v_proj",
    "q_proj"
  ],
  "target_parameters": null,
  "task_type": "CAUSAL_LM",
  "task_type": "SEQ_CLS",
  "trainable_token_indices": null,
  "use_bdlora": null,
  "use_dora": false,
  "use_qalora": false,
  "use_rslora": false,
  "velora_config": null
}"""

WORDS = (_NAMES + "\n" + _CONFIG).encode()


def deflate(data: bytes) -> bytes:
    """Compress bytes with the preset dictionary."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, WORDS)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, *, max_bytes: int) -> bytes:
    """Decompress bytes with the preset dictionary.

    Raises:
        TernDamagedError: not such a stream, or it gives more than `max_bytes`.
    """
    unpacker = zlib.decompressobj(-15, zdict=WORDS)
    try:
        raw = unpacker.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise TernDamagedError(f"the index cannot be read: {error}", field="index") from error
    if len(raw) > max_bytes or not unpacker.eof or unpacker.unused_data:
        raise TernDamagedError("the index is not one whole stream of allowed size", field="index")
    return raw
