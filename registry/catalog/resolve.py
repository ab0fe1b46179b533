"""Find the revision that a reference points at."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from registry.catalog.adapters import AdapterEntry, ref_names
from registry.catalog.errors import PinConflictError, RevisionNotFoundError
from registry.catalog.refs import find_ref
from registry.catalog.revisions import find_by_prefix
from registry.digest import Digest
from registry.refs import Reference

_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def target_of(connection: Connection, entry: AdapterEntry, reference: Reference) -> Digest:
    """Return the digest that a reference names, whether or not there is such a revision.

    Raises:
        RevisionNotFoundError: the adapter has no such branch, tag or commit id.
        PinConflictError: the ref does not point at the digest beside it.
    """
    if reference.digest is not None and reference.ref is None:
        return reference.digest
    found = _ref_target(connection, entry, reference)
    if reference.digest is not None and found != reference.digest:
        raise PinConflictError(
            reference.adapter, reference.branch, expected=reference.digest, actual=found
        )
    return found


def _ref_target(connection: Connection, entry: AdapterEntry, reference: Reference) -> Digest:
    text = reference.branch
    if _COMMIT_ID.fullmatch(text):
        found = find_by_prefix(connection, entry.number, text)
        if len(found) == 1:
            return found[0]
    elif (ref := find_ref(connection, entry.number, text)) and ref.digest:
        return ref.digest
    names = ref_names(connection, entry.number)
    raise RevisionNotFoundError(reference.adapter, text, there_is=names)
