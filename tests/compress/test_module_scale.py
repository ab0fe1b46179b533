"""Check what multiplies B A: alpha, patterns and rank stabilisation, without any weights."""

from __future__ import annotations

import math

import pytest

from compress.adapter import LoraSettings
from compress.lora import module_scale

MODULE = "base_model.model.encoder.layers.3.q_proj"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LoraSettings(alpha=16.0), 2.0),
        (LoraSettings(alpha=16.0, rank_stabilised=True), 16 / math.sqrt(8)),
        (LoraSettings(), 1.0),
        (LoraSettings(alpha=0.0), 0.0),
        (LoraSettings(alpha=16.0, alpha_pattern={"q_proj": 4.0}), 0.5),
        (LoraSettings(alpha=16.0, alpha_pattern={"v_proj": 4.0}), 2.0),
        (LoraSettings(alpha_pattern={"q_proj": 4.0}, rank_stabilised=True), 4 / math.sqrt(8)),
        (LoraSettings(alpha=16.0, rank=4), 2.0),
    ],
)
def test_scales_follow_the_config(settings: LoraSettings, expected: float) -> None:
    assert module_scale(MODULE, 8, settings) == pytest.approx(expected)
