"""Read the environment: the only place that does.

Every setting is `ADAPTERS_` and the field's name in capitals. An empty variable counts as absent.
"""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_PORT = 8321
DEFAULT_SLOTS = 2


class AuthMode(StrEnum):
    """Say who may speak to the hub without a token."""

    AUTO = "auto"
    NONE = "none"
    TOKEN = "token"  # noqa: S105 - the name of a mode, not a secret


class JobExecutor(StrEnum):
    """Say what runs jobs."""

    LOCAL = "local"
    RAY = "ray"


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "adapters"


def _data_dir() -> Path:
    return _xdg("XDG_DATA_HOME", ".local/share")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())
    return value


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach an address or host name."""
    name = host.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def no_color() -> bool:
    """Return whether the person asked all programs for output without colours."""
    return bool(os.environ.get("NO_COLOR"))


def environment_with(settings: HubSettings, **extra: str) -> dict[str, str]:
    """Return the environment for a program that must have the same settings as this one.

    Args:
        settings: those that differ from their defaults are handed on.
        extra: further variables.
    """
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    ours = {f"ADAPTERS_{name.upper()}": _setting_text(value) for name, value in given.items()}
    return {**os.environ, **ours, **extra}


def _setting_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return "" if value is None else str(value)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip() not in {"", "-1"})
    found = sorted(Path("/dev").glob("nvidia[0-9]*"))
    return tuple(path.name.removeprefix("nvidia") for path in found)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment_without_settings() -> dict[str, str]:
    """Return the environment for a program that must not see this one's settings."""
    ours = ("ADAPTERS_", "HF_ENDPOINT", "HF_TOKEN")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="ADAPTERS_", env_ignore_empty=True, extra="ignore", frozen=True
    )


class HubSettings(_Settings):
    """Configure a hub.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        data_dir: where an embedded hub keeps its database, blobs, staged uploads and pepper.
        database_url: an SQLAlchemy URL; empty means SQLite in `data_dir`.
        store: `s3://bucket/prefix`, a folder or `memory:`; empty means a folder in `data_dir`.
        auth: `auto` asks for a token unless `host` is loopback.
        admin_token: a secret that administers everything, for the first start.
        token_pepper: key of the tokens' hashes; None means one kept in `data_dir`.
        allowed_hosts: further `Host` names that an open hub answers to.
        metrics_open: whether `/metrics` answers without a token when `auth` asks for one.
        presigned_downloads: redirect downloads to the bucket where the store can sign a URL.
        presigned_expires_s: how long such a URL works.
        max_file_bytes: the largest file of a revision.
        max_files_per_revision: the most files of a revision.
        max_json_bytes: the largest JSON body.
        max_header_bytes: the largest request line and headers.
        header_timeout_s: how long a connection may take to send them.
        namespace_quota_bytes: what a namespace may hold; 0 means no limit.
        requests_per_minute: for each principal, or each address without one; 0 means no limit.
        failed_tokens_per_minute: wrong tokens from one address before it must wait.
        max_concurrent_uploads: uploads in flight at once, a quarter of them by one token.
        upload_idle_s: how long an upload may send nothing before it is cut off.
        keep_alive_s: how long an idle connection stays open.
        shutdown_grace_s: how long requests may finish after a signal to stop.
        log_level: `debug`, `info`, `warning` or `error`.
        job_slots: jobs at once beside `serve`; None means 2 on the embedded database, else none.
        job_lease_s: how long a worker may be silent before its job is given to another.
        job_grace_s: how long a job may take to stop before it is killed.
        job_gpus: GPUs to hand out to jobs; None means those that can be seen.
        job_executor: what runs jobs: `local` processes, or a `ray` cluster.
        ray_address: of that cluster: `auto`, or `host:port` of its head.
    """

    host: str = "127.0.0.1"
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    data_dir: Path = Field(default_factory=_data_dir)
    database_url: str = ""
    store: str = ""
    auth: AuthMode = AuthMode.AUTO
    admin_token: SecretStr | None = Field(None, min_length=16)
    token_pepper: SecretStr | None = Field(None, min_length=16)
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    metrics_open: bool = False
    presigned_downloads: bool = False
    presigned_expires_s: int = Field(300, ge=1, le=3600)
    max_file_bytes: int = Field(16 << 30, ge=1)
    max_files_per_revision: int = Field(1000, ge=1, le=100_000)
    max_json_bytes: int = Field(8 << 20, ge=1024)
    max_header_bytes: int = Field(64 << 10, ge=4096)
    header_timeout_s: float = Field(20.0, gt=0)
    namespace_quota_bytes: int = Field(0, ge=0)
    requests_per_minute: int = Field(12_000, ge=0)
    failed_tokens_per_minute: int = Field(30, ge=1)
    max_concurrent_uploads: int = Field(64, ge=1)
    upload_idle_s: float = Field(60.0, gt=0)
    keep_alive_s: int = Field(30, ge=1)
    shutdown_grace_s: int = Field(20, ge=1)
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    job_slots: int | None = Field(None, ge=0, le=1024)
    job_lease_s: float = Field(60.0, ge=1, le=3600)
    job_grace_s: float = Field(5.0, ge=0, le=600)
    job_gpus: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)] = None
    job_executor: JobExecutor = JobExecutor.LOCAL
    ray_address: str = "auto"

    @property
    def needs_token(self) -> bool:
        """Return whether a request must bring a token."""
        if self.auth is AuthMode.AUTO:
            return not is_loopback(self.host)
        return self.auth is AuthMode.TOKEN

    @property
    def slots(self) -> int:
        """Return how many jobs run at once beside the hub."""
        if self.job_slots is not None:
            return self.job_slots
        embedded = not self.database_url or self.database_url.startswith("sqlite")
        shared = self.store != "memory:"
        return DEFAULT_SLOTS if embedded and shared else 0

    @property
    def gpus(self) -> tuple[str, ...]:
        """Return the GPUs that jobs may have."""
        return visible_gpus() if self.job_gpus is None else self.job_gpus

    @property
    def exposed(self) -> bool:
        """Return whether other machines reach the hub."""
        return not is_loopback(self.host)


class ClientSettings(_Settings):
    """Configure a client; what a flag says comes before all of this.

    Attributes:
        endpoint: URL of the hub, or None if the environment does not say.
        token: what to send, or None if the environment does not say.
        hf_endpoint: the same from `HF_ENDPOINT`, used where `endpoint` is absent.
        hf_token: the same from `HF_TOKEN`, used where `token` is absent.
        cache_dir: where partial downloads wait to be resumed.
        config_dir: where `adapters login` keeps tokens.
        timeout_s: how long to wait for a hub that sends nothing.
    """

    endpoint: str | None = None
    token: SecretStr | None = None
    hf_endpoint: str | None = Field(None, validation_alias="HF_ENDPOINT")
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")
    cache_dir: Path = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"))
    config_dir: Path = Field(default_factory=lambda: _xdg("XDG_CONFIG_HOME", ".config"))
    timeout_s: float = Field(60.0, gt=0)
