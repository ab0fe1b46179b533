"""Check which tensors belong together as LoRA modules, and their scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.adapter import LoraSettings
from compress.lora import LoraModule, Role, find_modules, split_key, unread_patterns
from compress.weights import open_weights

MakeRaw = Callable[..., Path]
P = "base_model.model."


def modules_of(
    make_raw: MakeRaw, tensors: dict[str, NDArray[Any]], settings: LoraSettings | None = None
) -> list[LoraModule]:
    """Write tensors and find their modules."""
    with open_weights([make_raw(tensors)]) as weights:
        return find_modules(weights, settings or LoraSettings())


def pair(a: str, b: str, rank: int = 2, **more: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Make two factors."""
    return {a: np.ones((rank, 3), np.float32), b: np.ones((5, rank), np.float32), **more}


@pytest.mark.parametrize(
    ("name", "module", "role"),
    [
        (f"{P}h.0.q.lora_A.weight", f"{P}h.0.q", Role.A),
        (f"{P}h.0.q.lora_B.weight", f"{P}h.0.q", Role.B),
        (f"{P}h.0.q.lora_A.default.weight", f"{P}h.0.q", Role.A),
        (f"{P}h.0.q.lora_B.default.weight", f"{P}h.0.q", Role.B),
        (f"{P}wte.lora_embedding_A", f"{P}wte", Role.A),
        (f"{P}wte.lora_embedding_B.default", f"{P}wte", Role.B),
        (f"{P}h.0.q.lora_A", f"{P}h.0.q", Role.A),
        (f"{P}h.0.q.poly_lora_A", f"{P}h.0.q", Role.A),
        ("unet.up.0.to_k.lora_A.weight", "unet.up.0.to_k", Role.A),
        ("up.0.attn1.processor.to_k_lora.down.weight", "up.0.attn1.processor.to_k", Role.A),
        ("up.0.attn1.processor.to_k_lora.up.weight", "up.0.attn1.processor.to_k", Role.B),
        ("text_encoder.q_proj.lora.down.weight", "text_encoder.q_proj", Role.A),
        ("lora_unet_mid_block_to_q.lora_down.weight", "lora_unet_mid_block_to_q", Role.A),
        ("lora_unet_mid_block_to_q.lora_up.weight", "lora_unet_mid_block_to_q", Role.B),
        ("unet:17:down", "unet:17", Role.A),
        ("text_encoder:3:up", "text_encoder:3", Role.B),
        (f"{P}h.0.q.lora_B.bias", f"{P}h.0.q.lora_B.bias", Role.EXACT),
        (f"{P}h.0.q.lora_magnitude_vector", f"{P}h.0.q.lora_magnitude_vector", Role.EXACT),
        (f"{P}score.weight", f"{P}score.weight", Role.EXACT),
        ("lora_unet_mid_block_to_q.alpha", "lora_unet_mid_block_to_q.alpha", Role.EXACT),
        ("<s1>", "<s1>", Role.EXACT),
        ("mlp.up_proj.weight", "mlp.up_proj.weight", Role.EXACT),
        ("unet.up.weight", "unet.up.weight", Role.EXACT),
    ],
)
def test_keys_are_read(name: str, module: str, role: Role) -> None:
    assert split_key(name) == (module, role)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (f"{P}q.lora_A.weight", f"{P}q.lora_B.weight"),
        (f"{P}q.lora_A.mine.weight", f"{P}q.lora_B.mine.weight"),
        ("q_lora.down.weight", "q_lora.up.weight"),
        ("q.lora_down.weight", "q.lora_up.weight"),
        ("unet:1:down", "unet:1:up"),
    ],
)
def test_factors_pair_up(a: str, b: str, make_raw: MakeRaw) -> None:
    (module,) = modules_of(make_raw, pair(a, b))
    assert (module.a, module.b, module.rank, module.scale) == (a, b, 2, 1.0)


def test_convolutions_pair_up(make_raw: MakeRaw) -> None:
    tensors = {
        "c.lora_A.weight": np.ones((4, 3, 3, 3), np.float32),
        "c.lora_B.weight": np.ones((6, 4, 1, 1), np.float32),
    }
    (module,) = modules_of(make_raw, tensors)
    assert module.rank == 4


@pytest.mark.parametrize(
    "tensors",
    [
        {"q.lora_A.weight": np.ones((2, 3), np.float32)},
        {
            "q.lora_A.weight": np.ones((2, 3), np.float32),
            "q.lora_B.weight": np.ones((5, 4), np.float32),
        },
        {"q.lora_A.weight": np.ones(3, np.float32), "q.lora_B.weight": np.ones((5, 3), np.float32)},
        {
            "q.lora_A.weight": np.ones((2, 3), np.float32),
            "q.lora_B.weight": np.ones((5, 2, 3, 3), np.float32),
        },
        {
            "q.lora_A.weight": np.empty((0, 3), np.float32),
            "q.lora_B.weight": np.empty((5, 0), np.float32),
        },
    ],
    ids=["alone", "ranks", "vector", "kernel", "empty"],
)
def test_what_does_not_pair_is_left_out(
    tensors: dict[str, NDArray[Any]], make_raw: MakeRaw
) -> None:
    assert modules_of(make_raw, tensors) == []


Q = f"{P}layers.3.q"


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        (LoraSettings(alpha=8), 4.0),
        (LoraSettings(alpha=8, rank_stabilised=True), 8 / math.sqrt(2)),
        (LoraSettings(), 1.0),
        (LoraSettings(alpha=8, alpha_pattern={"q": 6}), 3.0),
        (LoraSettings(alpha=8, alpha_pattern={"layers.3.q": 6}), 3.0),
        (LoraSettings(alpha=8, alpha_pattern={"^layers.3.q": 6}), 3.0),
        (LoraSettings(alpha=8, alpha_pattern={"layers.4.q": 6}), 4.0),
        (LoraSettings(alpha=8, alpha_pattern={"v": 5, ".*3.q": 6}), 3.0),
        (LoraSettings(alpha=8, alpha_pattern={"(a+)+q": 6}), 4.0),
    ],
)
def test_scales_follow_the_config(settings: LoraSettings, scale: float, make_raw: MakeRaw) -> None:
    tensors = pair(f"{Q}.lora_A.weight", f"{Q}.lora_B.weight")
    (module,) = modules_of(make_raw, tensors, settings)
    assert module.scale == pytest.approx(scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int32, np.int8])
def test_kohya_alpha_is_read(make_raw: MakeRaw, dtype: Any) -> None:
    tensors = pair("q.lora_down.weight", "q.lora_up.weight")
    tensors["q.alpha"] = np.array(6, dtype)
    (module,) = modules_of(make_raw, tensors)
    assert module.scale == 3.0


def test_the_diagonal_of_adalora_is_found(make_raw: MakeRaw) -> None:
    tensors = pair("q.lora_A", "q.lora_B")
    tensors["q.lora_E"] = np.ones((2, 1), np.float32)
    (module,) = modules_of(make_raw, tensors)
    assert module.middle == "q.lora_E"


def test_patterns_that_were_not_understood_are_listed() -> None:
    settings = LoraSettings(alpha_pattern={"q": 1, "(x|y)": 2})
    assert unread_patterns(settings) == ["(x|y)"]
