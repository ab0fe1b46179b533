"""Answer what is there: adapters, revisions, refs, lineage and files; and let go of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from registry.base_names import base_key_of
from registry.catalog.adapters import (
    AdapterEntry,
    find_adapter,
    get_adapter,
    list_adapters,
)
from registry.catalog.audit import list_audit
from registry.catalog.bases import find_base
from registry.catalog.commit import add_branch, add_tags
from registry.catalog.cursors import check_limit, decode_cursor, encode_cursor
from registry.catalog.database import Database
from registry.catalog.errors import (
    AdapterNotFoundError,
    FileNotInRevisionError,
    RevisionNotFoundError,
)
from registry.catalog.lineage import ancestors, descendants
from registry.catalog.refs import living_refs, refs_at
from registry.catalog.removal import remove_adapter, remove_ref
from registry.catalog.resolve import target_of
from registry.catalog.revisions import (
    blob_of,
    load_revision,
    walk,
)
from registry.catalog.values import (
    AdapterQuery,
    AdapterRecord,
    AuditEntry,
    LineageGraph,
    Page,
    Readable,
    RefRecord,
    RevisionRecord,
)
from registry.clock import Clock, time_text
from registry.digest import Digest
from registry.manifest import FileEntry
from registry.recorder import Recorder
from registry.refs import AdapterName, Reference, RefKind, check_ref_name
from registry.storage.blobs import BlobStore
from registry.validation.file_types import media_type


@dataclass(frozen=True, slots=True)
class Adapters:
    """Read adapters, and change what is not a push.

    Attributes:
        database: the catalog.
        store: where the blobs are.
        recorder: tells the store what was decided.
        clock: tells the time.
    """

    database: Database
    store: BlobStore
    recorder: Recorder
    clock: Clock

    def list(self, query: AdapterQuery) -> Page[AdapterRecord]:
        """Return one page of adapters, by namespace and name.

        Raises:
            ValidationError: the cursor, the limit or the base's name is wrong.
        """
        with self.database.read() as connection:
            base = find_base(connection, base_key_of(query.base)) if query.base else None
            if query.base and base is None:
                return Page(())
            return list_adapters(connection, query, base=base.number if base else None)

    def get(self, name: AdapterName) -> AdapterRecord:
        """Return what there is to show of an adapter.

        Raises:
            AdapterNotFoundError: there is none of this name.
        """
        with self.database.read() as connection:
            record = get_adapter(connection, name)
        if record is None:
            raise AdapterNotFoundError(name)
        return record

    def resolve(self, reference: Reference) -> RevisionRecord:
        """Return the revision that a reference points at now.

        Raises:
            AdapterNotFoundError: there is no such adapter.
            RevisionNotFoundError: it has no such branch, tag, commit id or digest.
            PinConflictError: the ref does not point at the digest beside it.
        """
        name = reference.adapter
        with self.database.read() as connection:
            entry = _existing(find_adapter(connection, name), name)
            digest = target_of(connection, entry, reference)
            manifest = load_revision(connection, entry.number, digest)
            refs = refs_at(connection, entry.number, [digest])[digest]
        if manifest is None:
            raise RevisionNotFoundError(name, str(digest))
        return RevisionRecord(digest, manifest, tuple(refs))

    def log(
        self, reference: Reference, *, cursor: str | None = None, limit: int = 50
    ) -> Page[RevisionRecord]:
        """Return one page of a revision and those before it, newest first.

        Raises:
            AdapterNotFoundError: there is no such adapter.
            RevisionNotFoundError: it has no such revision.
            ValidationError: the cursor or the limit is wrong.
        """
        check_limit(limit)
        name = reference.adapter
        with self.database.read() as connection:
            entry = _existing(find_adapter(connection, name), name)
            start = (
                Digest.parse(decode_cursor(cursor, 1)[0])
                if cursor
                else target_of(connection, entry, reference)
            )
            found = walk(connection, entry.number, start, limit=limit + 1)
            refs = refs_at(connection, entry.number, [digest for digest, _ in found[:limit]])
        if not found:
            raise RevisionNotFoundError(name, str(start))
        items = tuple(RevisionRecord(d, m, tuple(refs[d])) for d, m in found[:limit])
        more = encode_cursor(found[limit][0].hex) if len(found) > limit else None
        return Page(items, more)

    def refs(self, name: AdapterName) -> tuple[RefRecord, ...]:
        """Return the branches and tags of an adapter, by name.

        Raises:
            AdapterNotFoundError: there is none of this name.
        """
        with self.database.read() as connection:
            entry = _existing(find_adapter(connection, name), name)
            return tuple(living_refs(connection, [entry.number])[entry.number])

    def lineage(self, reference: Reference, *, readable: Readable = None) -> LineageGraph:
        """Return what a revision was made from and what was made from it.

        Edges from or to namespaces that may not be read are left out, and what lies behind them.

        Raises:
            AdapterNotFoundError: there is no such adapter.
            RevisionNotFoundError: it has no such revision.
        """
        revision = self.resolve(reference)
        with self.database.read() as connection:
            up = ancestors(connection, revision.digest, readable)
            down = descendants(connection, revision.digest, readable)
        return LineageGraph(up.edges, down.edges, up.truncated or down.truncated)

    def find_file(self, reference: Reference, path: str) -> FileEntry:
        """Return the entry of a revision's file.

        Raises:
            AdapterNotFoundError: there is no such adapter.
            RevisionNotFoundError: it has no such revision.
            FileNotInRevisionError: the revision has no file of this path.
        """
        for entry in self.resolve(reference).manifest.files:
            if entry.path == path:
                return entry
        raise FileNotInRevisionError(reference.adapter, path)

    def find_blob(self, name: AdapterName, digest: Digest) -> FileEntry:
        """Return the entry of a blob that some revision of this very adapter has.

        Raises:
            AdapterNotFoundError: there is no such adapter.
            FileNotInRevisionError: none of its revisions has this blob.
        """
        with self.database.read() as connection:
            entry = _existing(find_adapter(connection, name), name)
            found = blob_of(connection, entry.number, digest)
        if found is None:
            raise FileNotInRevisionError(name, str(digest))
        return FileEntry(found[0], digest, found[1], media_type(found[0]))

    def open_file(
        self, reference: Reference, path: str, *, start: int = 0, length: int | None = None
    ) -> tuple[FileEntry, Iterator[bytes]]:
        """Return a file's entry and its bytes in chunks; a whole file is verified on the way.

        Raises:
            FileNotInRevisionError: the revision has no such file.
            BlobNotFoundError: the store lost it.
        """
        entry = self.find_file(reference, path)
        return entry, self.store.read(entry.digest, start=start, length=length)

    def tag(self, reference: Reference, tag: str, *, principal: str = "") -> RefRecord:
        """Let a tag point at a revision; setting it again on the same one changes nothing.

        Raises:
            TagExistsError: the tag points at another revision.
            RefNameTakenError: a branch has this name.
            RevisionNotFoundError: there is no such revision.
        """
        check_ref_name(tag)
        revision, name = self.resolve(reference), reference.adapter
        act = self._act(principal, "tag", f"{name}:{tag}", revision.digest)
        number = self.database.write(
            lambda c: add_tags(c, name, digest=revision.digest, tags=[tag], act=act)
        )
        self.recorder.record_moves(number)
        return self._ref(name, tag)

    def branch(self, reference: Reference, branch: str, *, principal: str = "") -> RefRecord:
        """Begin a branch at a revision; doing so again changes nothing.

        Raises:
            BranchConflictError: the branch points at another revision.
            RefNameTakenError: a tag has this name.
            RevisionNotFoundError: there is no such revision.
        """
        check_ref_name(branch)
        revision, name = self.resolve(reference), reference.adapter
        act = self._act(principal, "branch", f"{name}:{branch}", revision.digest)
        number = self.database.write(
            lambda c: add_branch(c, name, digest=revision.digest, branch=branch, act=act)
        )
        self.recorder.record_moves(number)
        return self._ref(name, branch)

    def _ref(self, name: AdapterName, ref: str) -> RefRecord:
        found = next((record for record in self.refs(name) if record.name == ref), None)
        if found is None:  # somebody deleted it in this moment
            raise RevisionNotFoundError(name, ref)
        return found

    def delete_ref(
        self, name: AdapterName, kind: RefKind, ref: str, *, principal: str = ""
    ) -> None:
        """Delete a branch or tag; revisions that nothing else reaches go with it.

        Raises:
            RevisionNotFoundError: there is no such branch or tag.
            LastRefError: it is the adapter's last ref.
        """
        act = self._act(principal, f"delete-{kind}", f"{name}:{ref}")
        number = self.database.write(lambda c: remove_ref(c, name, kind=kind, ref=ref, act=act))
        self.recorder.record_moves(number)

    def delete(self, name: AdapterName, *, principal: str = "") -> None:
        """Delete an adapter with all its revisions; their blobs go with the next collection.

        Raises:
            AdapterNotFoundError: there is none of this name.
        """
        act = self._act(principal, "delete", str(name))
        number = self.database.write(lambda c: remove_adapter(c, name, act=act))
        self.recorder.record_moves(number)

    def audit(
        self, readable: Readable = None, *, cursor: str | None = None, limit: int = 50
    ) -> Page[AuditEntry]:
        """Return one page of what was done, newest first, as far as it may be read.

        Raises:
            ValidationError: the cursor or the limit is wrong.
        """
        with self.database.read() as connection:
            return list_audit(connection, readable, cursor=cursor, limit=limit)

    def _act(
        self, principal: str, action: str, subject: str, digest: Digest | None = None
    ) -> AuditEntry:
        return AuditEntry(time_text(self.clock()), principal, action, subject, digest)


def _existing(entry: AdapterEntry | None, name: AdapterName) -> AdapterEntry:
    if entry is None:
        raise AdapterNotFoundError(name)
    return entry
