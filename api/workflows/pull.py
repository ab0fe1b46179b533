"""Pull a revision into a local folder, which shows the whole of it or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from api.client import HubClient
from api.remote.errors import ListingError, NotCompressedError
from api.remote.fetching import BlobFetcher
from api.remote.placing import check_target, holds, link_or_copy, place
from api.remote.progress import SILENT, Progress
from api.schemas import RevisionBody
from registry.digest import Digest
from registry.errors import PathError, RefusedFileError
from registry.manifest import Operation
from registry.manifest_json import FileBody
from registry.refs import AdapterName, Reference
from registry.validation.file_paths import check_paths
from registry.validation.file_types import check_file_type


class WantedEncoding(StrEnum):
    """Say in which form a pull gives the weights."""

    PEFT = "peft"
    TERN = "tern"


@dataclass(frozen=True, slots=True)
class PullOptions:
    """Say how a pull behaves.

    Attributes:
        cache_dir: where partial downloads wait to be resumed.
        encoding: `peft` decodes a compressed revision; `tern` gives the compressed form.
        force: replace files of the same name where the folder holds something else.
        base: folder of the base model, which decoding the residual of a full fine-tune needs.
    """

    cache_dir: Path
    encoding: WantedEncoding = WantedEncoding.PEFT
    force: bool = False
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class PulledRevision:
    """Tell what a pull did.

    Attributes:
        revision: what was pulled.
        folder: where it is now.
        files: paths in it.
        fetched_bytes: what came over the wire.
        decoded: whether a `.tern` was turned into a PEFT folder on the way.
    """

    revision: RevisionBody
    folder: Path
    files: tuple[str, ...]
    fetched_bytes: int
    decoded: bool


def pull(
    client: HubClient,
    reference: Reference,
    folder: Path,
    *,
    options: PullOptions,
    progress: Progress = SILENT,
) -> PulledRevision:
    """Fetch a revision beside `folder`, check every byte, decode if asked, and put it in place.

    Raises:
        HubError: the hub refuses, or has no such revision.
        HubUnreachableError: the hub is gone for good; a repeated pull goes on from there.
        TargetTakenError: the folder holds something else.
        NotCompressedError: the compressed form was asked for and there is none.
        TernError: the compressed form is damaged.
    """
    revision = find_encoding(client, reference, options.encoding)
    decode = options.encoding is WantedEncoding.PEFT and _is_tern(revision)
    files = checked_files(revision)
    if not decode:
        check_target(folder, files, force=options.force)
    with beside(folder) as temporary:
        arrived = temporary / "arrived"
        fetched = fetch_all(
            client, revision, arrived, cache_dir=options.cache_dir, have=folder, progress=progress
        )
        result = _decoded(arrived, temporary / "decoded", options.base) if decode else arrived
        names = place(result, folder, force=options.force)
    return PulledRevision(revision, folder, names, fetched, decode)


def find_encoding(
    client: HubClient, reference: Reference, encoding: WantedEncoding
) -> RevisionBody:
    """Return the revision, or for `tern` the nearest one that was compressed from it.

    Anybody may push something and say that it was compressed from this revision. Only those of the
    same namespace are believed, whose writers could have moved the asked-for branch as well.

    Raises:
        NotCompressedError: nothing that was compressed from it is known.
        HubError: there is no such revision.
    """
    revision = client.resolve(reference)
    if encoding is WantedEncoding.PEFT or _is_tern(revision):
        return revision
    made = [
        edge
        for edge in client.lineage(revision).descendants
        if edge.edge.operation is Operation.COMPRESSED_FROM
        and edge.edge.revision == revision.digest
        and AdapterName.parse(edge.adapter).namespace == reference.adapter.namespace
    ]
    candidates = [
        client.resolve(
            Reference(AdapterName.parse(edge.adapter), digest=Digest.parse(edge.revision))
        )
        for edge in made
    ]
    found = [candidate for candidate in candidates if _is_tern(candidate)]
    if not found:
        raise NotCompressedError(str(reference))
    return max(found, key=lambda candidate: candidate.manifest.created_at)


def checked_files(revision: RevisionBody) -> tuple[FileBody, ...]:
    """Return a revision's files once it is sure that they can be stored under their names.

    Raises:
        ListingError: a path could harm this machine, or names what could run on it.
    """
    try:
        check_paths(file.path for file in revision.manifest.files)
        for file in revision.manifest.files:
            check_file_type(file.path)
    except (PathError, RefusedFileError) as error:
        raise ListingError(f"the hub lists a path that is refused here: {error}") from error
    return tuple(revision.manifest.files)


def fetch_all(
    client: HubClient,
    revision: RevisionBody,
    folder: Path,
    *,
    cache_dir: Path,
    have: Path | None = None,
    progress: Progress = SILENT,
) -> int:
    """Write every file of a revision under `folder`; return how many bytes were fetched.

    Args:
        client: the hub.
        revision: what to fetch.
        folder: a folder that nobody else sees yet.
        cache_dir: where partial downloads wait.
        have: a folder whose equal files need not be fetched again.
        progress: who is told.
    """
    folder.mkdir(parents=True, exist_ok=True)
    adapter = AdapterName.parse(revision.manifest.adapter)
    fetcher = BlobFetcher(client, adapter, cache_dir)
    for file in checked_files(revision):
        destination = folder / file.path
        destination.parent.mkdir(parents=True, exist_ok=True)
        if have is not None and holds(have, file):
            link_or_copy(have / file.path, destination)
            continue
        with progress.task(f"fetching {file.path}", file.size_bytes) as advance:
            fetcher.fetch(file, destination, advance)
    return fetcher.fetched_bytes


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Give a temporary folder on the same disk as `folder`, and remove it afterwards."""
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{folder.name}-") as name:
        yield Path(name)


def _is_tern(revision: RevisionBody) -> bool:
    return revision.manifest.config.encoding == "tern"


def _decoded(source: Path, destination: Path, base: Path | None) -> Path:
    from compress import decompress  # noqa: PLC0415 - NumPy is loaded only where weights are touched

    decompress(source, destination, base=base)
    return destination
