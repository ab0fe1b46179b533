"""Check the matching of module patterns against PEFT's own rule."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.patterns import first_match, is_understood

MODULES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.12.self_attn.q_proj",
    "model.layers.1.mlp.down_proj",
    "q_proj",
    "encoder.layer.3.attention.self.query",
    "a.b.c",
]
PATTERNS = [
    "q_proj",
    "self_attn.q_proj",
    "layers.0.self_attn.q_proj",
    "^model.layers.0.self_attn.q_proj",
    "^layers.0.self_attn.q_proj",
    "^q_proj",
    "proj",
    ".*proj",
    "_proj",
    r"layers\.\d+\.self_attn\.q_proj",
    r"layers\.\d+\.mlp\..*",
    "down_proj$",
    "a.b.c",
    "b.c",
    "bxc",
    ".",
    ".*",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("module", MODULES)
def test_the_subset_means_what_peft_means(pattern: str, module: str) -> None:
    assert is_understood(pattern)
    peft = re.match(rf"(.*\.)?({pattern})$", module) is not None
    assert (first_match([pattern], module) is not None) == peft


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(["a", "b", ".", r"\.", ".*", r"\d+", "1"]), max_size=6),
    st.text("ab.1", max_size=8),
)
def test_random_patterns_mean_what_peft_means(pieces: list[str], module: str) -> None:
    pattern = "".join(pieces)
    peft = re.match(rf"(.*\.)?({pattern})$", module) is not None
    assert (first_match([pattern], module) is not None) == peft


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "a|b", "[ab]", "a?", "a{2}", "(?=x)", "a" * 600, "\n"]
)
def test_what_lies_outside_the_subset_is_not_understood(pattern: str) -> None:
    assert not is_understood(pattern)
    assert first_match([pattern], "a") is None


def test_the_first_match_wins() -> None:
    assert first_match(["x", "b", "a.b"], "a.b") == "b"
    assert first_match([], "a") is None


def test_a_bomb_takes_no_time() -> None:
    start = time.perf_counter()
    assert first_match([".*a" * 100 + "c"], "a" * 1000) is None
    assert time.perf_counter() - start < 5
