"""Compute with adapters as their users do: PEFT on a tiny base model, with random weights.

The only place of the program that imports torch. The base has the shapes of all-MiniLM-L6-v2,
which the examples were trained on, and nothing is downloaded.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import BertConfig, BertForSequenceClassification

_SEED = 20_261
_VOCABULARY = 64


def logits(adapter: Path | None) -> list[list[float]]:
    """Return what the base model says, with an adapter or bare, to a fixed input."""
    torch.manual_seed(_SEED)
    torch.set_num_threads(1)
    config = BertConfig(
        vocab_size=_VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=64,
    )
    model: torch.nn.Module = BertForSequenceClassification(config)
    if adapter is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    tokens = torch.arange(2 * 16).reshape(2, 16) % _VOCABULARY
    with torch.inference_mode():
        found: list[list[float]] = model(input_ids=tokens).logits.tolist()
    return found
