"""Keep tokens by the keyed hash of their secret; the secret itself is never here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from registry.catalog.audit import append_audit
from registry.catalog.tables import tokens
from registry.catalog.values import AuditEntry, Role, TokenRecord

EVERYTHING = "*"


def insert_token(
    connection: Connection, token: TokenRecord, *, secret_hash: str, act: AuditEntry
) -> None:
    """Keep a new token."""
    row = {
        "id": token.id,
        "secret_hash": secret_hash,
        "label": token.label,
        "namespace": token.namespace,
        "role": token.role.value,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
    connection.execute(insert(tokens).values(row))
    append_audit(connection, act)


def find_token(connection: Connection, secret_hash: str, now: str) -> TokenRecord | None:
    """Return the valid token whose secret hashes so."""
    row = connection.execute(
        select(tokens)
        .where(tokens.c.secret_hash == secret_hash, tokens.c.revoked_at.is_(None))
        .where(or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now))
    ).one_or_none()
    return _record(row) if row else None


def list_tokens(connection: Connection, namespaces: frozenset[str] | None) -> list[TokenRecord]:
    """Return the tokens of some namespaces, or all, newest first; revoked ones too."""
    query = select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id)
    if namespaces is not None:
        query = query.where(tokens.c.namespace.in_(sorted(namespaces)))
    return [_record(row) for row in connection.execute(query)]


def get_token(connection: Connection, token_id: str) -> TokenRecord | None:
    """Return the token with this id, revoked or not."""
    row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
    return _record(row) if row else None


def mark_used(connection: Connection, token_id: str, now: str) -> None:
    """Note when a token was last used."""
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(last_used_at=now))


def mark_revoked(connection: Connection, token_id: str, act: AuditEntry) -> None:
    """Revoke a token; revoking it twice keeps the first time."""
    revoked = func.coalesce(tokens.c.revoked_at, act.time)
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_at=revoked))
    append_audit(connection, act)


def _record(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        label=row.label,
        namespace=row.namespace,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
