"""Check digests and the verified stream."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError, verified
from registry.errors import StorageError, ValidationError

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_empty_digest_is_the_published_one() -> None:
    assert Digest.of(b"").hex == EMPTY


@pytest.mark.parametrize("text", [EMPTY, f"sha256:{EMPTY}"])
def test_parse_takes_both_spellings(text: str) -> None:
    assert str(Digest.parse(text)) == f"sha256:{EMPTY}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.upper(),
        f"sha512:{EMPTY}",
        f" {EMPTY}",
        EMPTY + "\n",
    ],
)
def test_parse_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Digest.parse(text)
    assert caught.value.field == "digest"
    assert "64" in caught.value.expected


def test_short_forms() -> None:
    digest = Digest.parse(EMPTY)
    assert digest.short == EMPTY[:12]
    assert digest.commit_id == EMPTY[:40]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_stream_and_memory_agree(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert Digest.of_stream(io.BytesIO(data)).hex == hashlib.sha256(data).hexdigest()
    assert Digest.of_stream(io.BytesIO(data)) == Digest.of(data)


@given(st.lists(st.binary(max_size=20), max_size=8))
@settings(max_examples=50, deadline=None)
def test_verified_passes_the_right_bytes(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert b"".join(verified(chunks, Digest.of(whole))) == whole


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_verified_never_completes_the_wrong_bytes(chunks: list[bytes]) -> None:
    wrong = Digest.of(b"".join(chunks) + b"!")
    arrived: list[bytes] = []
    with pytest.raises(DigestMismatchError) as caught:
        arrived.extend(verified(chunks, wrong))
    assert b"".join(arrived) == b"".join(chunks[:-1])
    assert caught.value.expected == wrong
    assert isinstance(caught.value, StorageError)
    assert "damaged" in caught.value.hint


def test_verified_refuses_a_missing_tail() -> None:
    digest = Digest.of(b"onetwo")
    with pytest.raises(DigestMismatchError):
        list(verified([b"one"], digest))
    with pytest.raises(DigestMismatchError):
        list(verified([], digest))
