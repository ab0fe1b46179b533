"""Compute what the tests compare with: plain models with ΔW added densely, one text at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.numpy import load_file

PREFIX = "base_model.model."
Floats = NDArray[np.float64]


def plain_classifier(base: Path, adapter: Path, *, gain: float = 1.0) -> Any:
    """Give a model without PEFT whose weights are W + gain · alpha/r · BA, with the saved head."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    state = model.state_dict()
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            b = tensors[name.replace("lora_A", "lora_B")]
            delta = gain * config["lora_alpha"] / config["r"] * (b @ a)
            state[name.removeprefix(PREFIX).replace("lora_A.", "")] += torch.from_numpy(delta)
        elif "lora_" not in name:
            state[name.removeprefix(PREFIX)] = torch.from_numpy(a)
    model.load_state_dict(state)
    return model.eval()


def probabilities(model: Any, base: Path, texts: Sequence[str]) -> Floats:
    """Give the probabilities of the classes, float64 [texts, classes]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    found = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            found.append(softmax(model(input_ids=ids).logits[0].double().numpy()))
    return np.stack(found)


def softmax(logits: Floats) -> Floats:
    """Give probabilities along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
