"""Make small adapters for the tests of what others do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.baselines import Adapter
from compress.measure import Factors

Array = NDArray[Any]
MakeFolder = Callable[..., Path]
SHAPES = {"q": (40, 100), "v": (56, 72)}
RANK = 4


def factors(*, seed: int, rank: int = RANK, shape: tuple[int, int] = (40, 100)) -> Factors:
    """Make a module of float32 values whose directions differ in strength."""
    rng = np.random.default_rng(seed)
    strength = 2.0 ** -np.arange(rank)
    a = (rng.normal(size=(rank, shape[1])) * strength[:, None]).astype(np.float32)
    b = 0.05 * rng.normal(size=(shape[0], rank)).astype(np.float32)
    return Factors(a.astype(np.float64), b.astype(np.float64), 2.0)


def small_adapter(*, rank: int = RANK) -> Adapter:
    """Make an adapter of two modules that lies nowhere."""
    modules = {
        name: factors(seed=seed, rank=rank, shape=shape)
        for seed, (name, shape) in enumerate(SHAPES.items())
    }
    return Adapter(Path("nowhere"), modules)


def dense(module: Factors) -> Array:
    """Multiply out one ΔW."""
    return np.asarray(module.scale * module.b.astype(np.float64) @ module.a.astype(np.float64))


def dense_error(before: Mapping[str, Factors], after: Mapping[str, Factors]) -> float:
    """Give the relative error of ΔW from dense matrices."""
    lost = sum(((dense(after[name]) - dense(before[name])) ** 2).sum() for name in before)
    return float(np.sqrt(lost / sum((dense(module) ** 2).sum() for module in before.values())))


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Give a function that writes a PEFT folder of the small adapter, more tensors beside it."""

    def make(
        *,
        name: str = "adapter",
        adapter: Adapter | None = None,
        more: Mapping[str, Array] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tensors = dict(more or {})
        for module, found in (adapter or small_adapter()).modules.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = found.a.astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = found.b.astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return make
