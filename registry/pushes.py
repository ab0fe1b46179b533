"""Push: learn which blobs are missing, take them, and make a revision of them.

The order is blobs, manifest, ref: whatever stops a push, the earlier state stays whole, and the
same push sent again ends with the same revision. What decides is one database transaction, which
moves the branch from the head that the push builds on; before it nothing refers to the new
revision, after it nothing can take it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO

from registry.base_names import base_key_if_named, base_key_of, base_title
from registry.base_shapes import base_modules
from registry.blob_uploads import BlobUploads
from registry.catalog.adapters import find_adapter
from registry.catalog.bases import find_base
from registry.catalog.commit import Draft, add_tags, commit_draft
from registry.catalog.errors import BlobsMissingError, BranchConflictError
from registry.catalog.objects import ObjectKind, announce, touch_held
from registry.catalog.refs import find_ref, refs_at
from registry.catalog.revisions import load_revision
from registry.catalog.values import AuditEntry, RevisionRecord
from registry.clock import time_text
from registry.digest import Digest
from registry.errors import ValidationError
from registry.manifest import ConfigSummary, FileEntry, LineageEdge, Manifest, Operation
from registry.manifest_json import encode
from registry.push_request import (
    ANY,
    MissingBlob,
    PushFile,
    PushRequest,
    PushResult,
    check_request,
    same_content,
)
from registry.recorder import Recorder
from registry.records import manifest_key
from registry.refs import AdapterName, RefKind, check_namespace
from registry.storage.blobs import BlobStore
from registry.storage.upload_session import UploadSession
from registry.validation.adapter_files import InspectOptions, inspect_files
from registry.validation.adapter_summary import AdapterSummary, TernReader
from registry.validation.file_types import media_type

ATTEMPTS = 64


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Be a blob, as validation reads it."""

    store: BlobStore
    digest: Digest
    size_bytes: int

    def open(self) -> BinaryIO:
        """Open the blob for reading; the caller closes it."""
        return self.store.open(self.digest).__enter__()


@dataclass(frozen=True, slots=True)
class PushLimits:
    """Bound what one push may hold."""

    max_files: int = 4096
    max_revision_bytes: int = 256 << 30


@dataclass(frozen=True, slots=True)
class _Inspected:
    """Be what a push's files say, which stays true however often the branch moves."""

    config: ConfigSummary
    base_model: str | None
    base_key: str | None
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pushes:
    """Take pushes.

    Attributes:
        blobs: takes single blobs.
        recorder: tells the store what was decided.
        limits: what one push may hold.
        read_tern: looks inside a `.tern`, which this room cannot decode.
    """

    blobs: BlobUploads
    recorder: Recorder
    limits: PushLimits
    read_tern: TernReader | None = None

    def missing(self, namespace: str, sizes: Mapping[Digest, int]) -> list[MissingBlob]:
        """Return which of these blobs the namespace has to send, and from which byte on.

        What is there already is spared from collection for a while. The answer depends only on
        what the namespace sent itself.

        Raises:
            ValidationError: a blob of this digest has another size.
        """
        check_namespace(namespace)
        held = self._touch(namespace, sizes)
        for digest in sizes.keys() & held.keys():
            _check_size(str(digest), sizes[digest], held[digest])
        offset = self.blobs.uploads.offset
        return [MissingBlob(d, offset(namespace, d)) for d in sizes if d not in held]

    def upload(
        self, namespace: str, digest: Digest, *, offset: int, size_bytes: int
    ) -> AbstractContextManager[UploadSession]:
        """Continue or begin the upload of one blob; see `BlobUploads.upload`."""
        check_namespace(namespace)
        return self.blobs.upload(namespace, digest, offset=offset, size_bytes=size_bytes)

    def commit(self, request: PushRequest) -> PushResult:
        """Make a revision of blobs that were sent, and the branch's head.

        Raises:
            ValidationError: the request, a file or a shape is wrong.
            BlobsMissingError: blobs were not sent by this namespace.
            BranchConflictError: the branch does not point at `expected_head`.
            BaseConflictError: the adapter is bound to another base model.
            KindConflictError: the adapter is bound to another kind.
            TagExistsError: a tag points elsewhere.
            BlobBusyError: a blob is being collected; try again.
            LeaseLostError: it is the result of a job that somebody else has by now.
        """
        limits = self.limits
        check_request(request, max_files=limits.max_files, max_bytes=limits.max_revision_bytes)
        inspected: _Inspected | None = None
        for attempt in range(ATTEMPTS):
            head = self._head(request)
            if head and self._repeats(request, head):
                return self._repeat(request, head)
            _check_expected(request, head)
            inspected = inspected or self._inspect(request)
            try:
                return self._commit(request, head, inspected)
            except BranchConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
        message = "unreachable: the last attempt returns or raises"
        raise RuntimeError(message)

    def _touch(self, namespace: str, sizes: Mapping[Digest, int]) -> dict[Digest, int]:
        now = time_text(self.blobs.clock())
        return self.blobs.database.write(lambda c: touch_held(c, namespace, sizes, now=now))

    def _head(self, request: PushRequest) -> RevisionRecord | None:
        with self.blobs.database.read() as connection:
            entry = find_adapter(connection, request.adapter)
            ref = find_ref(connection, entry.number, request.branch) if entry else None
            if entry is None or ref is None or ref.digest is None or ref.kind is RefKind.TAG:
                return None
            manifest = load_revision(connection, entry.number, ref.digest)
            refs = refs_at(connection, entry.number, [ref.digest])[ref.digest]
        return RevisionRecord(ref.digest, manifest, tuple(refs)) if manifest else None

    def _repeats(self, request: PushRequest, head: RevisionRecord) -> bool:
        """Tell whether this push was made already, its answer perhaps lost."""
        expected = request.expected_head
        return (
            (expected is ANY or expected in {head.digest, head.manifest.parent})
            and same_content(request, head.manifest)
            and self._same_base(request, head.manifest)
        )

    def _same_base(self, request: PushRequest, manifest: Manifest) -> bool:
        if request.base_model is None:
            return True
        if manifest.base_model is None:
            return False
        with self.blobs.database.read() as connection:
            asked = find_base(connection, base_key_of(request.base_model))
            there = find_base(connection, base_key_of(manifest.base_model))
        return asked is not None and there is not None and asked.number == there.number

    def _repeat(self, request: PushRequest, head: RevisionRecord) -> PushResult:
        subject = f"{request.adapter}:{','.join(request.tags)}"
        act = AuditEntry(self._now(), request.author, "tag", subject, head.digest)
        number = self.blobs.database.write(
            lambda c: add_tags(
                c,
                request.adapter,
                digest=head.digest,
                tags=request.tags,
                act=act,
                lease=request.lease,
            )
        )
        self.recorder.record_moves(number)
        return PushResult(self._shown(request.adapter, head.digest, head.manifest), created=False)

    def _inspect(self, request: PushRequest) -> _Inspected:
        """Read the files that were sent, and learn what they are an adapter of."""
        self._check_held(request)
        store = self.blobs.store
        files = {f.path: StoredFile(store, f.digest, f.size_bytes) for f in request.files}
        options = InspectOptions(
            declared_kind=request.kind or "",
            read_tern=self.read_tern,
            allow_non_finite=request.allow_non_finite,
        )
        summary = inspect_files(files, options=options)
        name, warnings = self._base_of(request, summary)
        return _Inspected(
            config=summary.config_summary(),
            base_model=name,
            base_key=base_key_of(name) if name else None,
            shapes=base_modules(summary.module_shapes),
            warnings=(*_sentences(summary), *warnings),
        )

    def _check_held(self, request: PushRequest) -> None:
        sizes = {file.digest: file.size_bytes for file in request.files}
        held = self._touch(request.adapter.namespace, sizes)
        missing = [digest for digest in sizes if digest not in held]
        if missing:
            raise BlobsMissingError(missing)
        for file in request.files:
            _check_size(file.path, file.size_bytes, held[file.digest])

    def _base_of(
        self, request: PushRequest, summary: AdapterSummary
    ) -> tuple[str | None, tuple[str, ...]]:
        """Return the canonical name of a push's base, and what is odd about it."""
        declared, asked = summary.base_model or None, request.base_model
        text = asked if asked is not None else declared
        written = base_key_if_named(declared)
        with self.blobs.database.read() as connection:
            if text is None:
                bound = find_adapter(connection, request.adapter)
                return (bound.base_name if bound else None), ()
            key = base_key_of(text)
            base = find_base(connection, key)
            other = find_base(connection, written) if written else None
        name = base.name if base else base_title(text)
        if declared is None or written == key or (base and other and base.key == other.key):
            return name, ()
        return name, (f"the configuration names base model {declared!r}; pushed as {name!r}",)

    def _commit(
        self, request: PushRequest, head: RevisionRecord | None, inspected: _Inspected
    ) -> PushResult:
        manifest = self._manifest(request, head, inspected)
        data = encode(manifest)
        digest = Digest.of(data)
        now, name = manifest.created_at, request.adapter
        database = self.blobs.database
        announced = database.write(
            lambda c: announce(c, digest, kind=ObjectKind.MANIFEST, size_bytes=len(data), now=now)
        )
        self.blobs.store.write_record(manifest_key(name, digest), data)
        draft = Draft(
            digest=digest,
            manifest=manifest,
            text=data.decode(),
            announced=announced,
            branch=request.branch,
            tags=request.tags,
            base_key=inspected.base_key,
            shapes=inspected.shapes,
            lease=request.lease,
        )
        done = database.write(lambda c: commit_draft(c, draft, self._now()))
        if done.base is not None:
            self.recorder.record_bases(done.base)
        self.recorder.record_moves(done.adapter)
        return PushResult(self._shown(name, digest, manifest), created=True)

    def _manifest(
        self, request: PushRequest, head: RevisionRecord | None, inspected: _Inspected
    ) -> Manifest:
        parent = (LineageEdge(Operation.PARENT, request.adapter, head.digest),) if head else ()
        return Manifest(
            adapter=request.adapter,
            base_model=inspected.base_model,
            config=inspected.config,
            files=tuple(_entry(file) for file in sorted(request.files)),
            lineage=(*parent, *request.lineage),
            metrics=dict(sorted(request.metrics.items())),
            message=request.message,
            author=request.author,
            created_at=self._now(),
            warnings=inspected.warnings,
        )

    def _shown(self, name: AdapterName, digest: Digest, manifest: Manifest) -> RevisionRecord:
        with self.blobs.database.read() as connection:
            entry = find_adapter(connection, name)
            refs = refs_at(connection, entry.number, [digest])[digest] if entry else []
        return RevisionRecord(digest, manifest, tuple(refs))

    def _now(self) -> str:
        return time_text(self.blobs.clock())


def _entry(file: PushFile) -> FileEntry:
    return FileEntry(file.path, file.digest, file.size_bytes, media_type(file.path))


def _sentences(summary: AdapterSummary) -> tuple[str, ...]:
    return tuple(finding.message for finding in summary.warnings)


def _check_size(file: str, announced: int, stored: int) -> None:
    if announced != stored:
        raise ValidationError(
            f"{file} has {stored} bytes, not {announced}",
            file=file,
            field="size_bytes",
            expected=f"{stored} bytes",
            actual=f"{announced} bytes",
            hint="the size must be that of the bytes whose digest is named",
        )


def _check_expected(request: PushRequest, head: RevisionRecord | None) -> None:
    expected, actual = request.expected_head, head.digest if head else None
    if expected is not ANY and expected != actual:
        raise BranchConflictError(request.adapter, request.branch, expected=expected, actual=actual)
