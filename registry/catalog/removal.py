"""Let go of refs and adapters; what only they reached goes with them at once."""

from __future__ import annotations

from sqlalchemy import Connection

from registry.catalog.adapters import AdapterEntry, bury_adapter, find_adapter, ref_names
from registry.catalog.audit import append_audit
from registry.catalog.errors import AdapterNotFoundError, LastRefError, RevisionNotFoundError
from registry.catalog.refs import living_refs, lock_refs, move_ref
from registry.catalog.revisions import prune_unreachable
from registry.catalog.values import AuditEntry
from registry.refs import AdapterName, RefKind


def remove_ref(
    connection: Connection, name: AdapterName, *, kind: RefKind, ref: str, act: AuditEntry
) -> int:
    """Delete a branch or tag, and return the adapter's row.

    Raises:
        AdapterNotFoundError: there is no such adapter.
        RevisionNotFoundError: it has no such ref.
        LastRefError: it is the last one.
    """
    entry = _locked(connection, name)
    there = lock_refs(connection, entry.number, ref).get(kind)
    names = ref_names(connection, entry.number)
    if there is None or there.digest is None:
        raise RevisionNotFoundError(name, ref, there_is=names)
    if names == [ref]:
        raise LastRefError(name, ref)
    move_ref(connection, entry.number, kind=kind, name=ref, digest=None, now=act.time)
    prune_unreachable(connection, entry.number)
    append_audit(connection, act)
    return entry.number


def remove_adapter(connection: Connection, name: AdapterName, *, act: AuditEntry) -> int:
    """Delete an adapter with its refs and revisions, and return its row.

    Raises:
        AdapterNotFoundError: there is no such adapter.
    """
    entry = _locked(connection, name)
    for ref in living_refs(connection, [entry.number])[entry.number]:
        move_ref(connection, entry.number, kind=ref.kind, name=ref.name, digest=None, now=act.time)
    prune_unreachable(connection, entry.number)
    bury_adapter(connection, entry.number)
    append_audit(connection, act)
    return entry.number


def _locked(connection: Connection, name: AdapterName) -> AdapterEntry:
    entry = find_adapter(connection, name, lock=True)
    if entry is None:
        raise AdapterNotFoundError(name)
    return entry
