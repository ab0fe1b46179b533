"""Make adapters of known ΔW, and compare what came of them by dense arithmetic in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[Any]
Tensors = dict[str, Array]
PREFIX = "base_model.model.layers"


def factors(
    seed: int = 0,
    *,
    modules: int = 6,
    rank: int = 8,
    sizes: tuple[int, int] = (96, 128),
    decay: float = 0.75,
) -> Tensors:
    """Make factors whose components fall off, B much smaller than A as after training.

    Args:
        seed: of the numbers.
        modules: how many.
        rank: of each.
        sizes: d_out and d_in.
        decay: how much weaker every component is than the one before it.
    """
    rng = np.random.default_rng(seed)
    made: Tensors = {}
    for number in range(modules):
        name = f"{PREFIX}.{number}.q"
        strengths = 0.02 * (1 + number % 3) * decay ** np.arange(rank)
        a = rng.normal(size=(rank, sizes[1]))
        b = rng.normal(size=(sizes[0], rank)) * strengths
        made[f"{name}.lora_A.weight"] = a.astype(np.float32)
        made[f"{name}.lora_B.weight"] = b.astype(np.float32)
    return made


def save(folder: Path, tensors: Mapping[str, Array], **config: object) -> Path:
    """Write a PEFT folder; the rank in the config is that of the first A."""
    folder.mkdir(parents=True)
    rank = next((len(value) for key, value in tensors.items() if "lora_A" in key), 1)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q"]}
    settings |= {"base_model_name_or_path": "tiny", **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(dict(tensors), folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def deltas(folder: Path) -> Tensors:
    """Form every dense ΔW of a PEFT folder, float64 [d_out, d_in], by the definition of LoRA."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    found: Tensors = {}
    for key in tensors:
        if ".lora_A" not in key:
            continue
        module = key.split(".lora_A")[0]
        a = tensors[key].astype(np.float64)
        b = tensors[key.replace("lora_A", "lora_B")].astype(np.float64)
        rank = len(a)
        end = module.split(".")[-1]
        alpha = (config.get("alpha_pattern") or {}).get(end, config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        found[module] = scale * b.reshape(len(b), rank) @ a.reshape(rank, -1)
    return found


def error(original: Mapping[str, Array], decoded: Mapping[str, Array]) -> float:
    """Give the relative Frobenius error over all modules."""
    gap = sum(float(np.square(decoded[name] - value).sum()) for name, value in original.items())
    return math.sqrt(gap / sum(float(np.square(value).sum()) for value in original.values()))
