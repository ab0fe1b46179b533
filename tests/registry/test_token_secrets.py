"""Test the secrets of tokens."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import StorageError
from registry.token_secrets import hash_secret, is_well_formed, load_pepper, new_secret


def test_secrets_are_long_and_differ() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {54}
    assert all(secret.startswith("tern_") and is_well_formed(secret) for secret in made)


@given(st.integers(0, 53), st.sampled_from("0aZ_ é"))
@settings(max_examples=100, deadline=None)
def test_a_typing_error_is_found(place: int, character: str) -> None:
    secret = new_secret()
    changed = secret[:place] + character + secret[place + 1 :]
    assert is_well_formed(changed) == (changed == secret)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_other_texts_are_no_secrets(text: str) -> None:
    assert not is_well_formed(text)


def test_hashes_depend_on_the_pepper() -> None:
    secret = new_secret()
    assert hash_secret(secret, b"a") == hash_secret(secret, b"a") != hash_secret(secret, b"b")


def test_a_pepper_is_made_once_by_many(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(lambda _: load_pepper(path), range(16)))
    assert len(peppers) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_short_or_unreadable_pepper_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="holds 5 bytes"):
        load_pepper(path)
    with pytest.raises(StorageError, match="cannot keep"):
        load_pepper(tmp_path / "no" / "such" / "folder")
