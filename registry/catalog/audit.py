"""Append what was done by whom, and show it; nothing here is ever changed."""

from __future__ import annotations

from sqlalchemy import Connection, false, insert, or_, select

from registry.catalog.cursors import check_limit, decode_cursor, encode_cursor
from registry.catalog.tables import audit
from registry.catalog.values import AuditEntry, Page, Readable
from registry.digest import Digest
from registry.errors import ValidationError


def append_audit(connection: Connection, act: AuditEntry) -> None:
    """Append one act."""
    row = {
        "time": act.time,
        "principal": act.principal[:256],
        "action": act.action,
        "subject": act.subject[:512],
        "digest": act.digest.hex if act.digest else None,
    }
    connection.execute(insert(audit).values(row))


def list_audit(
    connection: Connection, readable: Readable, *, cursor: str | None, limit: int
) -> Page[AuditEntry]:
    """Return one page of acts, newest first; those on a namespace only if it may be read.

    Raises:
        ValidationError: the cursor or the limit is wrong.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(check_limit(limit) + 1)
    if readable is not None:
        owners = [audit.c.subject.startswith(f"{name}/", autoescape=True) for name in readable]
        query = query.where(or_(false(), *owners))
    if cursor:
        query = query.where(audit.c.id < _number(decode_cursor(cursor, 1)[0]))
    rows = connection.execute(query).all()
    acts = tuple(
        AuditEntry(
            row.time,
            row.principal,
            row.action,
            row.subject,
            Digest(row.digest) if row.digest else None,
        )
        for row in rows[:limit]
    )
    return Page(acts, encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationError("not a cursor of this listing", field="cursor", actual=text[:80])
    return int(text)
