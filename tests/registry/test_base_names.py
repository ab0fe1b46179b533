"""Test which spellings are one base model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.base_names import base_key_if_named, base_key_of, base_title
from registry.errors import ValidationError


@pytest.mark.parametrize(
    ("text", "key", "title"),
    [
        ("google/gemma-3-270m-it", "gemma3270mit", "google/gemma-3-270m-it"),
        ("gemma3-270m-it", "gemma3270mit", "gemma3-270m-it"),
        ("C:\\Users\\张三\\models\\Gemma-3-270M-it", "gemma3270mit", "Gemma-3-270M-it"),
        ("D:\\模型\\gemma_3_270m.it\\\\", "gemma3270mit", "gemma_3_270m.it"),
        ("/data/models/gemma-3-270m-it/", "gemma3270mit", "gemma-3-270m-it"),
        ("./gemma-3 270m it", "gemma3270mit", "gemma-3 270m it"),
        ("a/b/c", "c", "c"),
        ("  gpt2 ", "gpt2", "gpt2"),
        ("模型", "模型", "模型"),
        ("STRASSE", "strasse", "STRASSE"),
        ("straße", "strasse", "straße"),
    ],
)
def test_spellings(text: str, key: str, title: str) -> None:
    assert base_key_of(text) == key
    assert base_title(text) == title


@pytest.mark.parametrize("text", ["", " ", "/", "\\\\", "...", "-_-", "a\0b", "a\nb", "x" * 257])
def test_what_names_nothing(text: str) -> None:
    for ask in (base_key_of, base_title):
        with pytest.raises(ValidationError) as caught:
            ask(text)
        assert caught.value.field == "base_model"
    assert base_key_if_named(text) is None


def test_no_name_has_no_key() -> None:
    assert base_key_if_named(None) is None


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_a_title_is_the_same_base_as_what_it_stands_for(text: str) -> None:
    key = base_key_if_named(text)
    if key is not None:
        assert base_key_of(base_title(text)) == key
        assert base_title(base_title(text)) == base_title(text)
