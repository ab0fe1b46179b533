"""Tell who is calling, and refuse to start where nobody could be told apart.

A hub on loopback is open: everybody on the machine administers it. Any other hub takes bearer
tokens only. Wrong tokens from one address are soon not looked at any more; tokens that were
accepted before still are, so that one forgotten job locks nobody else out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from typing import Protocol

from pydantic import SecretStr

from api.errors import StartError, TokenInvalidError, TokenMissingError, TokenRateError
from api.hub.limits import RateLimiter
from api.settings import AuthMode, HubSettings
from registry.catalog.errors import InvalidTokenError
from registry.tokens import EVERYTHING, Principal, Role

LOCAL = Principal("local", {EVERYTHING: Role.ADMIN}, "local")
BOOTSTRAP = Principal("bootstrap", {EVERYTHING: Role.ADMIN}, "bootstrap")
_REMEMBERED = 10_000


class Authenticator(Protocol):
    """Turn a token's secret into who holds it."""

    def authenticate(self, secret: str) -> Principal:
        """Return the holder, or raise `InvalidTokenError`."""


class Gate(Protocol):
    """Tell callers apart."""

    def identify(self, authorization: str | None, address: str) -> Principal:
        """Return who sends this Authorization header from this address, or raise an `ApiError`."""


def check_start(settings: HubSettings, *, has_admin_token: bool) -> None:
    """Let a hub start only where callers can be told apart, or where all are local.

    Raises:
        StartError: it would be open to other machines, or nobody could administer it.
    """
    if settings.exposed and not settings.needs_token:
        raise StartError(
            f"bound to {settings.host}, a hub must not run with ADAPTERS_AUTH={AuthMode.NONE}",
            hint="set ADAPTERS_AUTH=token, or bind to 127.0.0.1",
        )
    if settings.needs_token and not has_admin_token and settings.admin_token is None:
        raise StartError(
            f"bound to {settings.host}, this hub needs a token, and nobody has one that "
            "administers it",
            hint="run `adapters admin token create --namespace '*' --role admin` here first, "
            "or set ADAPTERS_ADMIN_TOKEN to a secret of 16 characters or more",
        )


class Doorkeeper:
    """Identify callers by their bearer token."""

    def __init__(self, settings: HubSettings, tokens: Authenticator) -> None:
        self._open = not settings.needs_token
        self._bootstrap = settings.admin_token
        self._tokens = tokens
        self._failures = RateLimiter(settings.failed_tokens_per_minute)
        self._accepted = _Memory(_REMEMBERED)

    def identify(self, authorization: str | None, address: str) -> Principal:
        """Return who sends this Authorization header from this address.

        Raises:
            TokenMissingError: there is no bearer token, and one is needed.
            TokenInvalidError: the token is wrong, revoked or expired.
            TokenRateError: too many wrong tokens came from this address.
        """
        if self._open:
            return LOCAL
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise TokenMissingError(
                "this hub needs a token", hint="run `adapters login`, or set ADAPTERS_TOKEN"
            )
        return self._check(secret, address)

    def _check(self, secret: str, address: str) -> Principal:
        wait = self._failures.wait_s(address)
        if wait and not self._accepted.holds(secret):
            raise TokenRateError("too many wrong tokens came from this address", retry_after_s=wait)
        if _equal(self._bootstrap, secret):
            principal = BOOTSTRAP
        else:
            try:
                principal = self._tokens.authenticate(secret)
            except InvalidTokenError as error:
                self._failures.spend(address)
                raise TokenInvalidError(error.message, hint=error.hint) from error
        self._accepted.add(secret)
        return principal


def _equal(known: SecretStr | None, offered: str) -> bool:
    if known is None:
        return False
    return hmac.compare_digest(known.get_secret_value().encode(), offered.encode())


class _Memory:
    """Remember which secrets were right once, as keyed hashes; it proves nothing by itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def add(self, secret: str) -> None:
        """Remember a secret."""
        with self._lock:
            self._seen[self._mark(secret)] = None
            self._seen.move_to_end(self._mark(secret))
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)

    def holds(self, secret: str) -> bool:
        """Return whether a secret is remembered."""
        with self._lock:
            return self._mark(secret) in self._seen

    def _mark(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode("utf-8", "replace"), key=self._key).digest()
