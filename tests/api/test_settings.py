"""Check what the environment means, and that nothing else is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from api.settings import AuthMode, ClientSettings, HubSettings, environment_with, is_loopback


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ENDPOINT", "TOKEN", "DATA_DIR", "STORE", "HOST", "PORT", "AUTH", "ADMIN_TOKEN"):
        monkeypatch.delenv(f"ADAPTERS_{name}", raising=False)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_default_is_an_open_hub_on_loopback(tmp_path: Path) -> None:
    settings = HubSettings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8321)
    assert settings.data_dir == tmp_path / ".local/share/adapters"
    assert not settings.needs_token
    assert not settings.exposed


def test_the_xdg_folders_are_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "k"))
    assert HubSettings().data_dir == tmp_path / "d/adapters"
    assert ClientSettings().config_dir == tmp_path / "c/adapters"
    assert ClientSettings().cache_dir == tmp_path / "k/adapters"


@pytest.mark.parametrize(
    ("host", "auth", "needs"),
    [
        ("127.0.0.1", AuthMode.AUTO, False),
        ("::1", AuthMode.AUTO, False),
        ("localhost", AuthMode.AUTO, False),
        ("0.0.0.0", AuthMode.AUTO, True),
        ("::", AuthMode.AUTO, True),
        ("192.168.1.5", AuthMode.AUTO, True),
        ("hub.example", AuthMode.AUTO, True),
        ("", AuthMode.AUTO, True),
        ("127.0.0.1", AuthMode.TOKEN, True),
        ("0.0.0.0", AuthMode.NONE, False),
    ],
)
def test_a_token_is_needed_where_others_can_call(host: str, auth: AuthMode, needs: bool) -> None:
    assert HubSettings(host=host, auth=auth).needs_token is needs


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "LOCALHOST", "localhost.", "a.localhost"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "evil"],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_variables_are_read_and_empty_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERS_PORT", "9")
    monkeypatch.setenv("ADAPTERS_HOST", "")
    monkeypatch.setenv("ADAPTERS_ALLOWED_HOSTS", "Hub.example, other ,")
    settings = HubSettings()
    assert (settings.port, settings.host) == (9, "127.0.0.1")
    assert settings.allowed_hosts == ("hub.example", "other")


def test_a_weak_admin_token_is_refused_and_a_good_one_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ADAPTERS_ADMIN_TOKEN", "short")
    with pytest.raises(ValidationError, match="16"):
        HubSettings()
    monkeypatch.setenv("ADAPTERS_ADMIN_TOKEN", "long-enough-secret")
    assert "long-enough" not in repr(HubSettings())


@pytest.mark.parametrize(
    "wrong",
    [{"port": -1}, {"port": 65536}, {"auth": "maybe"}, {"max_json_bytes": 1}, {"log_level": "all"}],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HubSettings.model_validate(wrong)


def test_settings_do_not_change_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HubSettings().port = 1  # type: ignore[misc]  # what the test tries


def test_a_client_knows_where_each_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClientSettings().endpoint is None
    monkeypatch.setenv("HF_ENDPOINT", "http://hf")
    monkeypatch.setenv("HF_TOKEN", "t")
    settings = ClientSettings()
    assert settings.endpoint is None
    assert settings.hf_endpoint == "http://hf"
    assert settings.hf_token is not None
    monkeypatch.setenv("ADAPTERS_ENDPOINT", "http://own")
    assert ClientSettings().endpoint == "http://own"


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({}, 2),
        ({"job_slots": 0}, 0),
        ({"job_slots": 7, "database_url": "postgresql://x/y"}, 7),
        ({"database_url": "sqlite:///x"}, 2),
        ({"database_url": "postgresql://x/y"}, 0),
        ({"store": "memory:"}, 0),
    ],
)
def test_an_embedded_hub_runs_jobs_itself(given: dict[str, Any], slots: int) -> None:
    assert HubSettings(**given).slots == slots


@pytest.mark.parametrize(
    ("named", "gpus"), [("0,1", ("0", "1")), ("", ()), ("-1", ()), ("GPU-ab, 3", ("GPU-ab", "3"))]
)
def test_gpus_are_those_that_can_be_seen(
    monkeypatch: pytest.MonkeyPatch, named: str, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert HubSettings().gpus == gpus
    assert HubSettings(job_gpus=()).gpus == ()
    monkeypatch.setenv("ADAPTERS_JOB_GPUS", "5,6")
    assert HubSettings().gpus == ("5", "6")


def test_settings_travel_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = SecretStr("a-secret-of-some-length")
    own = HubSettings(
        data_dir=tmp_path,
        port=0,
        admin_token=secret,
        token_pepper=None,
        allowed_hosts=("a", "b"),
        job_gpus=(),
        job_lease_s=2.5,
    )
    for name, value in environment_with(own, EXTRA="1").items():
        monkeypatch.setenv(name, value)
    assert os.environ["EXTRA"] == "1"
    there = HubSettings()
    for name in ("data_dir", "port", "admin_token", "token_pepper", "allowed_hosts", "job_lease_s"):
        assert getattr(there, name) == getattr(own, name), name
