"""Keep tokens per hub in one file that only its owner reads, and choose endpoint and token.

What a flag says comes first, then `ADAPTERS_*`, then `HF_ENDPOINT` with `HF_TOKEN` (as a pair: a
token of one hub is never sent to another), then what `adapters login` stored.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api.remote.errors import CredentialsError, EndpointError

if TYPE_CHECKING:
    from api.settings import ClientSettings

DEFAULT_ENDPOINT = "http://127.0.0.1:8321"
FILE_NAME = "credentials.json"


@dataclass(frozen=True, slots=True)
class Access:
    """Say which hub is meant and what opens it.

    Attributes:
        endpoint: URL without a trailing slash.
        token: what to send, or None.
        source: where the token came from, for `whoami`.
    """

    endpoint: str
    token: str | None = None
    source: str = "none"


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold what the credentials file says.

    Attributes:
        endpoint: the hub that was logged in to last, or None.
        tokens: by endpoint.
    """

    endpoint: str | None
    tokens: dict[str, str]


def normal_endpoint(text: str) -> str:
    """Return an endpoint as it is stored and compared: lower-case host, no trailing slash.

    Raises:
        EndpointError: it is not an http or https URL, or carries a user, query or fragment.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise EndpointError(text) from error
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise EndpointError(text)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = f":{port}" if port else ""
    return f"{parts.scheme}://{host}{suffix}{parts.path.rstrip('/')}"


def check_token(text: str) -> str:
    """Return a token without the white space around it.

    Raises:
        CredentialsError: it is empty or holds what no header can carry.
    """
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,512}", token):
        raise CredentialsError(
            "this is not a token: expected one line of 1 to 512 visible ASCII characters",
            hint="paste the token as `adapters admin token create` showed it",
        )
    return token


class CredentialsFile:
    """Read and write the credentials of one user."""

    def __init__(self, config_dir: Path) -> None:
        self.path = config_dir / FILE_NAME

    def read(self) -> Stored:
        """Return what is stored; nothing if there is no file.

        Raises:
            CredentialsError: the file cannot be read or is not ours.
        """
        try:
            value = json.loads(self.path.read_text())
        except FileNotFoundError:
            return Stored(None, {})
        except (OSError, ValueError) as error:
            raise CredentialsError(
                f"cannot read {self.path}: {error}", hint="delete it and log in again"
            ) from error
        tokens = value.get("tokens") if isinstance(value, dict) else None
        if not isinstance(tokens, dict) or not all(isinstance(t, str) for t in tokens.values()):
            raise CredentialsError(
                f"{self.path} does not hold tokens by endpoint", hint="delete it and log in again"
            )
        endpoint = value.get("endpoint")
        return Stored(endpoint if isinstance(endpoint, str) else None, tokens)

    def store(self, endpoint: str, token: str) -> None:
        """Store a token and make its endpoint the one that is meant from now on.

        Raises:
            CredentialsError: the file cannot be read or written.
        """
        stored = self.read()
        self._write(Stored(endpoint, {**stored.tokens, endpoint: token}))

    def forget(self, endpoint: str) -> bool:
        """Forget a token; return whether there was one.

        Raises:
            CredentialsError: the file cannot be read or written.
        """
        stored = self.read()
        if endpoint not in stored.tokens:
            return False
        tokens = {name: token for name, token in stored.tokens.items() if name != endpoint}
        self._write(Stored(None if stored.endpoint == endpoint else stored.endpoint, tokens))
        return True

    def _write(self, stored: Stored) -> None:
        text = json.dumps({"endpoint": stored.endpoint, "tokens": stored.tokens}, indent=2)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp creates with mode 0600: not even briefly can others read the token.
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".credentials-")
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
            Path(name).replace(self.path)
        except OSError as error:
            raise CredentialsError(f"cannot write {self.path}: {error}") from error


def choose_access(
    settings: ClientSettings, *, endpoint: str | None = None, token: str | None = None
) -> Access:
    """Choose hub and token by precedence: arguments, `ADAPTERS_*`, `HF_*` as a pair, stored.

    Raises:
        EndpointError: the chosen endpoint is not a URL.
        CredentialsError: stored tokens cannot be read.
    """
    stored = CredentialsFile(settings.config_dir).read()
    named = endpoint or settings.endpoint or settings.hf_endpoint or stored.endpoint
    chosen = normal_endpoint(named or DEFAULT_ENDPOINT)
    if token:
        return Access(chosen, token, "flag")
    if settings.token:
        return Access(chosen, settings.token.get_secret_value(), "ADAPTERS_TOKEN")
    foreign = settings.hf_endpoint and normal_endpoint(settings.hf_endpoint)
    if settings.hf_token and foreign == chosen:
        return Access(chosen, settings.hf_token.get_secret_value(), "HF_TOKEN")
    if chosen in stored.tokens:
        return Access(chosen, stored.tokens[chosen], "login")
    return Access(chosen)
