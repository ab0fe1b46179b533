"""Push a local folder to a hub as one revision.

Start here for what a client does as a whole; `workflows_pull.py` is the way back, and
`workflows_compress.py` publishes what it made from a revision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from api.client import HubClient
from api.remote.errors import SourceNotFoundError
from api.remote.progress import SILENT, Progress
from api.remote.sending import BlobSender, Outgoing
from api.schemas import RevisionBody
from api.schemas_requests import BlobIn, PushFileIn, PushIn
from api.workflows.tern_content import read_tern
from registry.digest import Digest
from registry.manifest import LineageEdge
from registry.manifest_json import edge_body
from registry.refs import AdapterName, Reference
from registry.validation.adapter_files import InspectOptions, inspect_files
from registry.validation.adapter_summary import AdapterSummary
from registry.validation.file_sources import LocalFile
from registry.validation.findings import Finding
from registry.validation.local_folder import list_folder

_HASH_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Say what a push tells about its revision.

    Attributes:
        base_model: the base, where the config does not say or says it wrongly.
        message: what changed.
        author: who made it; the hub writes the token's label if empty.
        tags: names that stay.
        lineage: what it was made from; the hub adds the parent.
        metrics: named figures.
        kind: what the files are, where they cannot say themselves.
        onto: the head that this builds on; None takes the one that is there when the push begins.
        allow_non_finite: accept NaN and infinity among the weights.
    """

    base_model: str | None = None
    message: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    lineage: tuple[LineageEdge, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    kind: str | None = None
    onto: Digest | None = None
    allow_non_finite: bool = False


@dataclass(frozen=True, slots=True)
class PushedRevision:
    """Tell what a push did.

    Attributes:
        revision: what the branch points at now.
        created: False if the branch pointed at the very same content before.
        sent_bytes: what went over the wire.
        reused_bytes: what the hub had already.
        warnings: what is odd about the folder.
    """

    revision: RevisionBody
    created: bool
    sent_bytes: int
    reused_bytes: int
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class CheckedFolder:
    """Hold a local adapter that was found fit to be pushed.

    Attributes:
        files: what to send.
        summary: what the adapter is.
        warnings: what is odd, and what is left out.
    """

    files: tuple[Outgoing, ...]
    summary: AdapterSummary
    warnings: tuple[Finding, ...]


def push(
    client: HubClient,
    folder: Path,
    reference: Reference,
    *,
    options: PushOptions | None = None,
    progress: Progress = SILENT,
) -> PushedRevision:
    """Check a folder, send what the hub lacks, and commit; safe to repeat after any failure.

    Raises:
        RegistryError: the folder is not acceptable; nothing was sent.
        HubError: the hub refuses; another push moving the branch meanwhile is among the reasons.
        HubUnreachableError: the hub is gone for good.
    """
    options = options or PushOptions()
    checked = check_folder(folder, options=options, progress=progress)
    head = options.onto or client.head(reference.adapter, reference.branch)
    sent_bytes = _send(client, reference.adapter, checked.files, progress)
    revision, created = client.commit(
        reference.adapter, _push_body(checked.files, reference.branch, head, options)
    )
    total = sum(file.size_bytes for file in checked.files)
    return PushedRevision(
        revision, created, sent_bytes, max(0, total - sent_bytes), checked.warnings
    )


def check_folder(
    folder: Path, *, options: PushOptions | None = None, progress: Progress = SILENT
) -> CheckedFolder:
    """Validate and hash a local adapter, as the hub will.

    Raises:
        SourceNotFoundError: there is no such folder or file.
        RegistryError: it is not acceptable.
    """
    if not folder.exists():
        raise SourceNotFoundError(folder)
    options = options or PushOptions()
    listing = list_folder(folder)
    if not listing.files:
        raise SourceNotFoundError(folder, expected="files of an adapter, and the folder is empty")
    with ThreadPoolExecutor(1, "hash") as pool:
        hashed = pool.submit(_hash_all, listing.files, progress)
        try:
            summary = inspect_files(
                listing.files,
                options=InspectOptions(
                    declared_kind=options.kind or "",
                    read_tern=read_tern,
                    allow_non_finite=options.allow_non_finite,
                ),
            )
        finally:
            hashed.cancel()
        files = hashed.result()
    return CheckedFolder(files, summary, (*listing.findings, *summary.warnings))


def _hash_all(files: Mapping[str, LocalFile], progress: Progress) -> tuple[Outgoing, ...]:
    total = sum(file.size_bytes for file in files.values())
    outgoing = []
    with progress.task("checking", total) as advance:
        for name, file in sorted(files.items()):
            with file.path.open("rb") as stream:
                digest = Digest.of_stream(stream)
                size = stream.tell()
            outgoing.append(Outgoing(file.path, name, digest, size))
            advance(size)
    return tuple(outgoing)


def _send(
    client: HubClient, adapter: AdapterName, files: Sequence[Outgoing], progress: Progress
) -> int:
    by_digest = {file.digest: file for file in files}
    blobs = [
        BlobIn(digest=str(file.digest), size_bytes=file.size_bytes) for file in by_digest.values()
    ]
    missing = client.missing(adapter, blobs)
    sender = BlobSender(client, adapter)
    for digest, offset in missing.items():
        file = by_digest[digest]
        with progress.task(f"sending {file.name}", file.size_bytes) as advance:
            sender.send(file, offset, advance)
    return sender.sent_bytes


def _push_body(
    files: Sequence[Outgoing], branch: str, head: Digest | None, options: PushOptions
) -> PushIn:
    return PushIn(
        branch=branch,
        files=[
            PushFileIn(path=file.name, digest=str(file.digest), size_bytes=file.size_bytes)
            for file in files
        ],
        expected_head=str(head) if head else None,
        base_model=options.base_model,
        message=options.message,
        author=options.author,
        tags=list(options.tags),
        lineage=[edge_body(edge) for edge in options.lineage],
        metrics=dict(options.metrics),
        kind=options.kind,
        allow_non_finite=options.allow_non_finite,
    )
