"""Make a revision part of the catalog, in one transaction: all of it or nothing.

Locks are taken in one order everywhere: base model, adapter, objects by digest, ref, job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from registry.catalog.adapters import bind_adapter, find_adapter
from registry.catalog.audit import append_audit
from registry.catalog.bases import Shapes, learn_base
from registry.catalog.errors import (
    AdapterNotFoundError,
    BlobBusyError,
    BlobsMissingError,
    BranchConflictError,
    RefNameTakenError,
    TagExistsError,
)
from registry.catalog.job_leases import set_result
from registry.catalog.objects import confirm, touch_held
from registry.catalog.refs import lock_refs, move_ref
from registry.catalog.revisions import insert_revision, load_revision
from registry.catalog.values import AuditEntry
from registry.digest import Digest
from registry.jobs.values import JobResult, Lease
from registry.manifest import Manifest
from registry.refs import AdapterName, RefKind


@dataclass(frozen=True, slots=True)
class Draft:
    """Be a revision that is about to be committed.

    Attributes:
        digest: its identity.
        manifest: its description.
        text: the manifest's canonical JSON.
        announced: number of the manifest's row among the objects.
        branch: the branch that it becomes the head of.
        tags: tags to set on it.
        base_key: normalised name of its base model, or None while unknown.
        shapes: what it tells of that base.
        lease: the job whose result it is, or None.
    """

    digest: Digest
    manifest: Manifest
    text: str
    announced: int
    branch: str
    tags: tuple[str, ...] = ()
    base_key: str | None = None
    shapes: Shapes = field(default_factory=dict)
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Say which rows a commit changed, so that the store can be told.

    Attributes:
        adapter: the adapter's row.
        base: the row of a base model that was made or widened, or None.
    """

    adapter: int
    base: int | None


def commit_draft(connection: Connection, draft: Draft, now: str) -> Committed:
    """Insert a revision, bind its adapter and move its branch from the parent to it.

    Raises:
        BranchConflictError: the branch does not point at the draft's parent (any more).
        BaseShapeError: a module contradicts the base model.
        BaseConflictError: the adapter is bound to another base model.
        KindConflictError: the adapter is bound to another kind.
        BlobsMissingError: a blob was not sent by this namespace, or was collected meanwhile.
        BlobBusyError: the manifest was collected meanwhile.
        TagExistsError: a tag points elsewhere.
        RefNameTakenError: a tag has the branch's name, or the other way round.
        LeaseLostError: the job that made it belongs to somebody else by now.
    """
    manifest = draft.manifest
    name, base, changed = manifest.adapter, None, False
    if draft.base_key is not None and manifest.base_model is not None:
        base, changed = learn_base(
            connection,
            manifest.base_model,
            key=draft.base_key,
            namespace=name.namespace,
            shapes=draft.shapes,
            now=now,
        )
    entry = bind_adapter(connection, name, kind=manifest.config.kind, base=base, now=now)
    _hold_blobs(connection, draft, now)
    _check_head(connection, name, adapter=entry.number, draft=draft)
    insert_revision(
        connection, entry.number, digest=draft.digest, manifest=manifest, text=draft.text
    )
    move_ref(
        connection,
        entry.number,
        kind=RefKind.BRANCH,
        name=draft.branch,
        digest=draft.digest,
        now=now,
    )
    set_tags(connection, name, adapter=entry.number, digest=draft.digest, tags=draft.tags, now=now)
    act = AuditEntry(now, manifest.author, "push", f"{name}:{draft.branch}", draft.digest)
    append_audit(connection, act)
    if draft.lease is not None:
        set_result(connection, draft.lease, JobResult(name, draft.digest))
    return Committed(entry.number, base if changed else None)


def _hold_blobs(connection: Connection, draft: Draft, now: str) -> None:
    digests = {file.digest for file in draft.manifest.files}
    held = touch_held(connection, draft.manifest.adapter.namespace, digests, now=now)
    missing = sorted(digests - held.keys())
    if missing:
        raise BlobsMissingError(missing)
    if not confirm(connection, draft.announced, now=now):
        raise BlobBusyError(draft.digest)


def _check_head(connection: Connection, name: AdapterName, *, adapter: int, draft: Draft) -> None:
    there = lock_refs(connection, adapter, draft.branch)
    tag, branch = there.get(RefKind.TAG), there.get(RefKind.BRANCH)
    if tag is not None and tag.digest is not None:
        raise RefNameTakenError(name, draft.branch, RefKind.TAG)
    head = branch.digest if branch else None
    if head != draft.manifest.parent:
        raise BranchConflictError(name, draft.branch, expected=draft.manifest.parent, actual=head)


def set_tags(
    connection: Connection,
    name: AdapterName,
    *,
    adapter: int,
    digest: Digest,
    tags: Sequence[str],
    now: str,
) -> bool:
    """Let tags point at a revision, and tell whether any is new.

    Raises:
        TagExistsError: one points elsewhere.
        RefNameTakenError: a branch has its name.
    """
    moved = False
    for tag in tags:
        there = lock_refs(connection, adapter, tag)
        branch, old = there.get(RefKind.BRANCH), there.get(RefKind.TAG)
        if branch is not None and branch.digest is not None:
            raise RefNameTakenError(name, tag, RefKind.BRANCH)
        if old is not None and old.digest is not None:
            if old.digest != digest:
                raise TagExistsError(name, tag, expected=digest, actual=old.digest)
            continue
        move_ref(connection, adapter, kind=RefKind.TAG, name=tag, digest=digest, now=now)
        moved = True
    return moved


def add_tags(
    connection: Connection,
    name: AdapterName,
    *,
    digest: Digest,
    tags: Sequence[str],
    act: AuditEntry,
    lease: Lease | None = None,
) -> int:
    """Tag a revision that is there, as a job's result if it is one; return the adapter's row.

    Raises:
        AdapterNotFoundError: the adapter or the revision is gone.
        TagExistsError: a tag points elsewhere.
        RefNameTakenError: a branch has its name.
        LeaseLostError: the job belongs to somebody else by now.
    """
    entry = find_adapter(connection, name, lock=True)
    if entry is None or load_revision(connection, entry.number, digest) is None:
        raise AdapterNotFoundError(name)
    if lease is not None:
        set_result(connection, lease, JobResult(name, digest))
    if set_tags(connection, name, adapter=entry.number, digest=digest, tags=tags, now=act.time):
        append_audit(connection, act)
    return entry.number


def add_branch(
    connection: Connection, name: AdapterName, *, digest: Digest, branch: str, act: AuditEntry
) -> int:
    """Begin a branch at a revision that is there, and return the adapter's row.

    Raises:
        AdapterNotFoundError: the adapter or the revision is gone.
        BranchConflictError: there is such a branch, and it points elsewhere.
        RefNameTakenError: a tag has its name.
    """
    entry = find_adapter(connection, name, lock=True)
    if entry is None or load_revision(connection, entry.number, digest) is None:
        raise AdapterNotFoundError(name)
    there = lock_refs(connection, entry.number, branch)
    tag, old = there.get(RefKind.TAG), there.get(RefKind.BRANCH)
    if tag is not None and tag.digest is not None:
        raise RefNameTakenError(name, branch, RefKind.TAG)
    if old is not None and old.digest == digest:
        return entry.number
    if old is not None and old.digest is not None:
        raise BranchConflictError(name, branch, expected=None, actual=old.digest)
    number = entry.number
    move_ref(connection, number, kind=RefKind.BRANCH, name=branch, digest=digest, now=act.time)
    append_audit(connection, act)
    return number
