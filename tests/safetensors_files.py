"""Build small safetensors files, right ones and wrong ones, byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save

Array = npt.NDArray[Any]
PREFIX = "base_model.model."


def raw_file(
    header: str | bytes | Mapping[str, Any], data: bytes = b"", *, pad: bool = False
) -> bytes:
    """Put a header and data together without checking anything."""
    if isinstance(header, Mapping):
        header = json.dumps(header)
    text = header.encode() if isinstance(header, str) else header
    if pad:
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def library_reads(data: bytes) -> dict[str, Any] | None:
    """Return what the safetensors library makes of a file by name, or None if it refuses."""
    deserialize: Any = safetensors.deserialize
    try:
        return dict(deserialize(data))
    except safetensors.SafetensorError:
        return None


def entry(dtype: str, shape: Iterable[int], begin: int, end: int) -> dict[str, Any]:
    """Return one tensor's entry of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def good_file(tensors: Mapping[str, Array], metadata: dict[str, str] | None = None) -> bytes:
    """Write tensors as the safetensors library does."""
    return bytes(save(dict(tensors), metadata or {"format": "pt"}))


def lora(
    modules: Iterable[str], *, rank: int = 2, d_in: int = 4, d_out: int = 6, seed: int = 0
) -> dict[str, Array]:
    """Return the factors of a LoRA on some modules, spelled as PEFT does."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for module in modules:
        a = random.standard_normal((rank, d_in)).astype(np.float32)
        b = random.standard_normal((d_out, rank)).astype(np.float32)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{PREFIX}{module}.lora_B.weight"] = b
    return tensors


def config(**fields: Any) -> bytes:
    """Return a LoRA configuration of rank 2 with some fields replaced."""
    members: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q", "v"],
    }
    members |= fields
    return json.dumps(members).encode()
