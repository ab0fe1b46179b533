"""Make small adapters and models for the tests of compression."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = Mapping[str, NDArray[Any]]
MakeAdapter = Callable[..., Path]

LORA_CONFIG: dict[str, object] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q", "v"],
    "base_model_name_or_path": "tiny",
    "alpha_pattern": {},
    "rank_pattern": {},
}


def lora_tensors(
    *, layers: int = 2, rank: int = 4, size: int = 24, seed: int = 0, b_scale: float = 0.05
) -> dict[str, NDArray[Any]]:
    """Make the tensors of a LoRA with a small head."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    for layer in range(layers):
        for module in ("q", "v"):
            name = f"base_model.model.layers.{layer}.{module}"
            a, b = rng.normal(size=(rank, size)), b_scale * rng.normal(size=(size, rank))
            tensors[f"{name}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = b.astype(np.float32)
    tensors["base_model.model.score.weight"] = rng.normal(size=(3, size)).astype(np.float32)
    return tensors


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    """Give a function that writes a PEFT folder."""

    def make(
        tensors: Tensors | None = None,
        *,
        name: str = "adapter",
        config: Mapping[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file(
            dict(tensors if tensors is not None else lora_tensors()),
            folder / "adapter_model.safetensors",
            {"format": "pt"},
        )
        text = json.dumps({**LORA_CONFIG, **(config or {})}, indent=2)
        (folder / "adapter_config.json").write_text(text)
        return folder

    return make


@pytest.fixture
def make_raw(tmp_path: Path) -> MakeAdapter:
    """Give a function that writes one safetensors file without a config."""

    def make(
        tensors: Tensors,
        *,
        name: str = "lora.safetensors",
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        save_file(dict(tensors), path, dict(metadata) if metadata else None)
        return path

    return make
