"""Say who may do what: make tokens, recognise them, revoke them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry.catalog.database import Database
from registry.catalog.errors import InvalidTokenError, TokenNotFoundError
from registry.catalog.tokens import (
    EVERYTHING,
    find_token,
    get_token,
    insert_token,
    list_tokens,
    mark_revoked,
    mark_used,
)
from registry.catalog.values import AuditEntry, Readable, Role, TokenRecord
from registry.clock import Clock, time_before, time_text
from registry.errors import ValidationError
from registry.jobs.values import Lease
from registry.refs import check_namespace
from registry.token_secrets import hash_secret, is_well_formed, new_secret

__all__ = ["EVERYTHING", "Principal", "Role", "TokenRecord", "Tokens"]
USE_NOTED_EVERY_S = 60
MAX_LABEL = 200
_RANKS = {Role.READ: 1, Role.WRITE: 2, Role.ADMIN: 3}


@dataclass(frozen=True, slots=True)
class Principal:
    """Be somebody who was recognised.

    Attributes:
        label: name for logs and the audit; two tokens may have the same.
        grants: role by namespace; `*` stands for every namespace.
        id: what no other principal has, for limits.
        lease: the job that acts for somebody, or None; what it publishes is that job's result.
    """

    label: str
    grants: Mapping[str, Role]
    id: str = ""
    lease: Lease | None = None

    def may(self, role: Role, namespace: str) -> bool:
        """Tell whether this role, or a higher one, was granted in a namespace."""
        held = (self.grants.get(EVERYTHING), self.grants.get(namespace))
        return any(grant and _RANKS[grant] >= _RANKS[role] for grant in held)

    @property
    def readable(self) -> Readable:
        """Return the namespaces that may be read, or None for all."""
        return None if EVERYTHING in self.grants else frozenset(self.grants)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Keep the tokens of one registry.

    Attributes:
        database: the catalog.
        pepper: key of the hashes.
        clock: tells the time.
    """

    database: Database
    pepper: bytes
    clock: Clock

    def create(
        self,
        namespace: str,
        role: Role,
        *,
        label: str = "",
        expires_at: str | None = None,
        principal: str = "",
    ) -> tuple[TokenRecord, str]:
        """Make a token and return it with its secret, which is not kept and never shown again.

        Args:
            namespace: where it holds, or `*` for everywhere.
            role: what it allows.
            label: what people call it.
            expires_at: when it ends, as UTC text or any ISO time with a zone; None means never.
            principal: who makes it.

        Raises:
            ValidationError: the namespace, the label or the time is not allowed.
        """
        _check_new(namespace, label)
        now = self.clock()
        record = TokenRecord(
            id=secrets.token_hex(8),
            label=label,
            namespace=namespace,
            role=Role(role),
            created_at=time_text(now),
            expires_at=None if expires_at is None else _expiry(expires_at, now),
        )
        secret = new_secret()
        hashed = hash_secret(secret, self.pepper)
        act = AuditEntry(record.created_at, principal, "create-token", f"{namespace}/{record.id}")
        self.database.write(lambda c: insert_token(c, record, secret_hash=hashed, act=act))
        return record, secret

    def authenticate(self, secret: str) -> Principal:
        """Return who holds this secret.

        Secrets are looked up by their keyed hash, so that the time it takes tells nothing of them.

        Raises:
            InvalidTokenError: it is malformed, unknown, expired or revoked.
        """
        if not is_well_formed(secret):
            raise InvalidTokenError
        now = self.clock()
        hashed = hash_secret(secret, self.pepper)
        with self.database.read() as connection:
            token = find_token(connection, hashed, time_text(now))
        if token is None:
            raise InvalidTokenError
        if (token.last_used_at or "") < time_before(now, USE_NOTED_EVERY_S):
            self.database.write(lambda c: mark_used(c, token.id, time_text(now)))
        return Principal(token.label or token.id, {token.namespace: token.role}, token.id)

    def list(self, namespaces: Readable = None) -> tuple[TokenRecord, ...]:
        """Return the tokens of some namespaces, or all, newest first; never their secrets."""
        with self.database.read() as connection:
            return tuple(list_tokens(connection, namespaces))

    def get(self, token_id: str) -> TokenRecord:
        """Return one token.

        Raises:
            TokenNotFoundError: there is none with this id.
        """
        with self.database.read() as connection:
            token = get_token(connection, token_id)
        if token is None:
            raise TokenNotFoundError(token_id)
        return token

    def has_admin(self) -> bool:
        """Tell whether somebody can administer everything with a token that holds now."""
        now = time_text(self.clock())
        return any(
            token.namespace == EVERYTHING and token.role is Role.ADMIN and token.holds_at(now)
            for token in self.list(frozenset({EVERYTHING}))
        )

    def revoke(self, token_id: str, *, principal: str = "") -> None:
        """Revoke a token for good; revoking it again changes nothing.

        Raises:
            TokenNotFoundError: there is none with this id.
        """
        token = self.get(token_id)
        now = time_text(self.clock())
        act = AuditEntry(now, principal, "revoke-token", f"{token.namespace}/{token_id}")
        self.database.write(lambda c: mark_revoked(c, token_id, act))


def _check_new(namespace: str, label: str) -> None:
    if namespace != EVERYTHING:
        check_namespace(namespace)
    if len(label) > MAX_LABEL or not label.isprintable():
        raise ValidationError(
            "this label is not allowed",
            field="label",
            expected=f"at most {MAX_LABEL} printable characters",
            actual=label[:80],
        )


def _expiry(text: str, now: datetime) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment <= now:
        raise ValidationError(
            f"a token cannot expire at {text[:40]!r}",
            field="expires_at",
            expected="a time to come with its zone, such as 2030-01-31T00:00:00Z",
            actual=text[:40],
        )
    return time_text(moment)
