"""Tell callers apart without a server: tokens right and wrong, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from api.errors import StartError, TokenInvalidError, TokenMissingError, TokenRateError
from api.hub import auth
from api.hub.auth import BOOTSTRAP, LOCAL, Doorkeeper, check_start
from api.settings import AuthMode, HubSettings
from registry.catalog.errors import InvalidTokenError
from registry.tokens import Principal, Role

SECRET = "bootstrap-secret-0001"
READER = Principal("reader", {"team": Role.READ})


class Known:
    """Know some secrets, and count who asks."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self.principals = dict(principals)
        self.asked: list[str] = []

    def authenticate(self, secret: str) -> Principal:
        self.asked.append(secret)
        if secret not in self.principals:
            raise InvalidTokenError
        return self.principals[secret]


def settings(**fields: object) -> HubSettings:
    return HubSettings.model_validate(
        {"auth": AuthMode.TOKEN, "failed_tokens_per_minute": 2, **fields}
    )


@pytest.fixture
def known() -> Known:
    return Known({"good": READER})


@pytest.fixture
def door(known: Known) -> Doorkeeper:
    return Doorkeeper(settings(admin_token=SecretStr(SECRET)), known)


def test_an_open_hub_asks_nobody(known: Known) -> None:
    door = Doorkeeper(settings(auth=AuthMode.NONE), known)
    for header in (None, "Bearer wrong", "nonsense"):
        assert door.identify(header, "a") == LOCAL
    assert known.asked == []


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER  good "])
def test_a_good_token_tells_its_holder(door: Doorkeeper, header: str) -> None:
    assert door.identify(header, "a") == READER


def test_the_bootstrap_token_needs_no_database(door: Doorkeeper, known: Known) -> None:
    assert door.identify(f"Bearer {SECRET}", "a") == BOOTSTRAP
    assert known.asked == []


def test_without_a_bootstrap_token_none_is_accepted(known: Known) -> None:
    door = Doorkeeper(settings(), known)
    for secret in ("None", "", SECRET):
        with pytest.raises((TokenInvalidError, TokenMissingError)):
            door.identify(f"Bearer {secret}", "a")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer   ", "Basic good", "good"])
def test_no_bearer_token_is_no_failure(door: Doorkeeper, header: str | None) -> None:
    for _ in range(10):
        with pytest.raises(TokenMissingError):
            door.identify(header, "a")
    assert door.identify("Bearer good", "a") == READER


def test_wrong_tokens_are_soon_not_looked_at(door: Doorkeeper, known: Known) -> None:
    for _ in range(2):
        with pytest.raises(TokenInvalidError):
            door.identify("Bearer wrong", "a")
    for _ in range(5):
        with pytest.raises(TokenRateError) as caught:
            door.identify("Bearer wrong", "a")
        assert caught.value.retry_after_s > 0
    assert known.asked == ["wrong", "wrong"]


def test_another_address_is_not_meant(door: Doorkeeper) -> None:
    for _ in range(2):
        with pytest.raises(TokenInvalidError):
            door.identify("Bearer wrong", "a")
    assert door.identify("Bearer good", "b") == READER


def test_who_was_let_in_before_is_not_locked_out(door: Doorkeeper) -> None:
    door.identify("Bearer good", "a")
    for _ in range(2):
        with pytest.raises(TokenInvalidError):
            door.identify("Bearer wrong", "a")
    assert door.identify("Bearer good", "a") == READER


def test_remembering_proves_nothing(door: Doorkeeper, known: Known) -> None:
    door.identify("Bearer good", "a")
    del known.principals["good"]
    with pytest.raises(TokenInvalidError):
        door.identify("Bearer good", "a")


def test_no_secret_is_kept_in_memory(door: Doorkeeper) -> None:
    door.identify("Bearer good", "a")
    seen = door._accepted._seen
    assert len(seen) == 1
    assert not any(b"good" in mark for mark in seen)


def test_what_is_remembered_is_bounded(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_REMEMBERED", 3)
    known.principals |= {f"good{number}": READER for number in range(10)}
    door = Doorkeeper(settings(), known)
    for number in range(10):
        door.identify(f"Bearer good{number}", "a")
    assert len(door._accepted._seen) == 3
    assert door._accepted.holds("good9")
    assert not door._accepted.holds("good0")


@pytest.mark.parametrize(
    ("fields", "has_admin"),
    [
        ({"host": "127.0.0.1", "auth": AuthMode.AUTO}, False),
        ({"host": "127.0.0.1", "auth": AuthMode.NONE}, False),
        ({"host": "0.0.0.0", "auth": AuthMode.AUTO}, True),
        ({"host": "0.0.0.0", "auth": AuthMode.AUTO, "admin_token": SECRET}, False),
        ({"host": "127.0.0.1", "auth": AuthMode.TOKEN}, True),
    ],
)
def test_a_safe_hub_starts(fields: dict[str, object], has_admin: bool) -> None:
    check_start(settings(**fields), has_admin_token=has_admin)


@pytest.mark.parametrize(
    ("fields", "has_admin"),
    [
        ({"host": "0.0.0.0", "auth": AuthMode.NONE}, True),
        ({"host": "0.0.0.0", "auth": AuthMode.AUTO}, False),
        ({"host": "10.0.0.1", "auth": AuthMode.AUTO}, False),
        ({"host": "127.0.0.1", "auth": AuthMode.TOKEN}, False),
    ],
)
def test_an_unsafe_one_says_what_to_do(fields: dict[str, object], has_admin: bool) -> None:
    with pytest.raises(StartError) as caught:
        check_start(settings(**fields), has_admin_token=has_admin)
    assert str(fields["host"]) in caught.value.message
    assert "ADAPTERS_" in caught.value.hint
