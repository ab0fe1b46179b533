"""Check how tokens are kept, and which hub and token are chosen."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.remote.credentials import (
    DEFAULT_ENDPOINT,
    CredentialsFile,
    check_token,
    choose_access,
    normal_endpoint,
)
from api.remote.errors import CredentialsError, EndpointError
from api.settings import ClientSettings

VARIABLES = ("ADAPTERS_ENDPOINT", "ADAPTERS_TOKEN", "HF_ENDPOINT", "HF_TOKEN")


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def stored(tmp_path: Path) -> CredentialsFile:
    return CredentialsFile(tmp_path / "adapters")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://127.0.0.1:8321", "http://127.0.0.1:8321"),
        ("https://Hub.Example.org/", "https://hub.example.org"),
        (" https://hub.example.org/team/ ", "https://hub.example.org/team"),
        ("http://[::1]:8321", "http://[::1]:8321"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, normal: str) -> None:
    assert normal_endpoint(text) == normal
    assert normal_endpoint(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub.example.org",
        "ftp://hub",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@hub",
        "http://hub?x=1",
        "http://hub#x",
        "http://hub:99999",
        "http://[::1",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(EndpointError, match="not the URL"):
        normal_endpoint(text)


@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        normal = normal_endpoint(text)
    except EndpointError:
        return
    assert normal_endpoint(normal) == normal


def test_a_token_loses_the_white_space_around_it() -> None:
    assert check_token(" tern_abc\n") == "tern_abc"


@pytest.mark.parametrize("text", ["", " \n", "two words", "line\r\nX-Header: 1", "é", "x" * 513])
def test_what_no_header_can_carry_is_no_token(text: str) -> None:
    with pytest.raises(CredentialsError, match="not a token"):
        check_token(text)


def test_tokens_are_for_their_owner_alone(stored: CredentialsFile) -> None:
    stored.store("http://a", "one")
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(stored.path.parent.stat().st_mode) == 0o700
    stored.store("http://b", "two")
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stored.read().tokens == {"http://a": "one", "http://b": "two"}
    assert [path.name for path in stored.path.parent.iterdir()] == [stored.path.name]


def test_forgetting_leaves_the_others(stored: CredentialsFile) -> None:
    stored.store("http://a", "one")
    stored.store("http://b", "two")
    assert stored.forget("http://b")
    assert not stored.forget("http://b")
    assert stored.read().tokens == {"http://a": "one"}
    assert stored.read().endpoint is None


@pytest.mark.parametrize("text", ["{", "[]", '{"tokens": []}', '{"tokens": {"a": 1}}', "\xff"])
def test_a_damaged_file_is_named(stored: CredentialsFile, text: str) -> None:
    stored.path.parent.mkdir()
    stored.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CredentialsError, match=r"credentials\.json") as caught:
        stored.read()
    assert "log in again" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CredentialsError, match="cannot"):
        CredentialsFile(tmp_path / "file" / "deeper").store("http://a", "one")


def test_without_anything_the_local_hub_is_meant() -> None:
    access = choose_access(ClientSettings())
    assert access.endpoint == DEFAULT_ENDPOINT
    assert access.token is None
    assert access.source == "none"


def test_precedence(stored: CredentialsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.store("http://stored", "from-login")
    access = choose_access(ClientSettings())
    assert (access.endpoint, access.token, access.source) == (
        "http://stored",
        "from-login",
        "login",
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://hf")
    monkeypatch.setenv("HF_TOKEN", "from-hf")
    access = choose_access(ClientSettings())
    assert (access.endpoint, access.token, access.source) == ("http://hf", "from-hf", "HF_TOKEN")
    monkeypatch.setenv("ADAPTERS_ENDPOINT", "http://ours/")
    monkeypatch.setenv("ADAPTERS_TOKEN", "from-ours")
    access = choose_access(ClientSettings())
    assert (access.endpoint, access.token) == ("http://ours", "from-ours")
    access = choose_access(ClientSettings(), endpoint="http://flag", token="from-flag")
    assert (access.endpoint, access.token, access.source) == ("http://flag", "from-flag", "flag")


def test_a_token_of_another_hub_is_never_sent(
    stored: CredentialsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.store("http://other", "secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert choose_access(ClientSettings(), endpoint="http://this").token is None
    monkeypatch.setenv("HF_ENDPOINT", "http://hf")
    assert choose_access(ClientSettings(), endpoint="http://this").token is None


def test_a_stored_token_goes_with_its_endpoint_in_any_spelling(stored: CredentialsFile) -> None:
    stored.store("https://hub.example.org", "secret")
    access = choose_access(ClientSettings(), endpoint="https://HUB.example.org/")
    assert access.token == "secret"


def test_the_file_is_json_that_people_can_read(stored: CredentialsFile) -> None:
    stored.store("http://a", "one")
    assert json.loads(stored.path.read_text()) == {
        "endpoint": "http://a",
        "tokens": {"http://a": "one"},
    }
