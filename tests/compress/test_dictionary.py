"""Check deflating with the words that adapters have in common."""

from __future__ import annotations

import hashlib
import json
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.dictionary import WORDS, deflate, inflate
from compress.errors import TernDamagedError


def test_the_words_of_version_one_never_change() -> None:
    expected = "3e67c8584fe0dfd05a9fd7353b958268e16653820c12f8680b91c4b75fe36b37"
    assert hashlib.sha256(WORDS).hexdigest() == expected


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_bytes_round_trip(data: bytes) -> None:
    assert inflate(deflate(data), max_bytes=2000) == data


def test_an_ordinary_config_takes_few_bytes() -> None:
    config = {
        "base_model_name_or_path": "meta-llama/Llama-3.2-1B",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "peft_type": "LORA",
        "r": 16,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    data = json.dumps(config, indent=2).encode()
    assert len(deflate(data)) < 0.6 * len(zlib.compress(data, 9))


def test_a_bomb_is_refused() -> None:
    bomb = deflate(bytes(10_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(TernDamagedError):
        inflate(bomb, max_bytes=1_000_000)


@pytest.mark.parametrize("damage", ["cut", "more", "noise", "empty"])
def test_damage_is_refused(damage: str) -> None:
    good = deflate(os.urandom(500))
    bad = {"cut": good[:-20], "more": good + b"x", "noise": b"\xff" * 50, "empty": b""}[damage]
    with pytest.raises(TernDamagedError):
        inflate(bad, max_bytes=1000)
