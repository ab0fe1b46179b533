"""Test the documents that stand beside the blobs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import Digest
from registry.errors import ValidationError
from registry.records import (
    BaseState,
    RefMove,
    base_key,
    decode_base,
    decode_move,
    encode_base,
    encode_move,
    manifest_key,
    move_key,
    parse_manifest_key,
    parse_series,
)
from registry.refs import AdapterName, RefKind, check_ref_name
from registry.storage.blobs import check_record_key

NAME = AdapterName("team", "x")
MOVE = RefMove(NAME, RefKind.BRANCH, "a/b_c", Digest.of(b"r"), 3, "t1", "t0", "LORA", "org/tiny")
BASE = BaseState(
    "tiny", "org/Tiny", ("nick",), "{}", {"m": (6, 4)}, None, "t0", "t1", 2, {"team": {"n": (2, 3)}}
)


def is_ref(text: str) -> bool:
    try:
        return check_ref_name(text) == text
    except ValidationError:
        return False


REFS = st.text(alphabet="ab_-./0", min_size=1, max_size=8).filter(is_ref)


@given(REFS, REFS)
@settings(max_examples=200, deadline=None)
def test_different_refs_have_different_keys(one: str, other: str) -> None:
    keys = [move_key(NAME, RefKind.TAG, ref, 1) for ref in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    for key in keys:
        assert check_record_key(key) == key
        assert key.count("/") == 6


@given(REFS, st.sampled_from(RefKind), st.integers(1, 10**10 - 1))
@settings(max_examples=100, deadline=None)
def test_moves_come_back(ref: str, kind: RefKind, sequence: int) -> None:
    move = replace(MOVE, name=ref, kind=kind, sequence=sequence)
    key = move_key(NAME, kind, ref, sequence)
    assert decode_move(encode_move(move), key) == move
    series = parse_series(key)
    assert series is not None
    assert series[1] == sequence
    assert parse_manifest_key(key) is None


def test_a_deletion_comes_back() -> None:
    move = replace(MOVE, digest=None, base_model=None)
    assert decode_move(encode_move(move), move_key(NAME, move.kind, move.name, 3)) == move


@given(st.text(min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_base_states_come_back_under_any_name(key: str) -> None:
    state = replace(BASE, key=key)
    name = base_key(key, 2)
    assert check_record_key(name) == name
    assert decode_base(encode_base(state), name) == state


def test_keys_of_manifests_are_read_back() -> None:
    digest = Digest.of(b"m")
    assert parse_manifest_key(manifest_key(NAME, digest)) == (NAME, digest)


@pytest.mark.parametrize(
    "key",
    [
        "adapters/team/x/manifests/short.json",
        "adapters/api/x/manifests/" + "0" * 64 + ".json",
        "adapters/team/x/refs/branches/main/1.json",
        "adapters/team/x/refs/others/main/0000000001.json",
        "base_models/0000000001.json",
        "something/else",
    ],
)
def test_foreign_keys_are_nothing(key: str) -> None:
    assert parse_manifest_key(key) is None
    assert parse_series(key) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 4},
        {"adapter": "team/y"},
        {"adapter": "team"},
        {"kind": "tag"},
        {"kind": "note"},
        {"digest": "sha256:0"},
        {"schema_version": 2},
        {"extra": 1},
        {"sequence": "3"},
    ],
)
def test_a_damaged_or_misplaced_move_is_refused(change: dict[str, object]) -> None:
    key = move_key(NAME, MOVE.kind, MOVE.name, MOVE.sequence)
    body = json.loads(encode_move(MOVE)) | change
    with pytest.raises(ValidationError) as caught:
        decode_move(json.dumps(body).encode(), key)
    assert caught.value.file == key


@pytest.mark.parametrize(
    "change",
    [
        *({"sequence": 1}, {"key": "other"}, {"shapes": {"m": [1]}}, {"aliases": "nick"}),
        *({"x": 0}, {"aliases": ["/"]}, {"learned": {"t": {"m": [1]}}}, {"learned": {"../x": {}}}),
    ],
)
def test_a_damaged_or_misplaced_base_is_refused(change: dict[str, object]) -> None:
    body = json.loads(encode_base(BASE)) | change
    with pytest.raises(ValidationError):
        decode_base(json.dumps(body).encode(), base_key("tiny", 2))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(ValidationError):
        decode_move(data, "adapters/team/x/refs/tags/v/0000000001.json")
    with pytest.raises(ValidationError):
        decode_base(data, "base_models/tiny/0000000001.json")
