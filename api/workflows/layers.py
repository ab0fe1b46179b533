"""Pull the first layers of a compressed revision: a coarser adapter for a part of the bytes.

Only the header, the index, what is kept exactly, heads and the wanted layers of the `.tern` come
over the wire, by ranges; the index holds a digest of each, so that every byte is checked although
the digest of the whole file cannot be. What is put in place is a file or folder of its own, never
the revision: it has another digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.client import HubClient
from api.remote.errors import NoLayersError
from api.remote.fetching import BlobFetcher
from api.remote.placing import place
from api.remote.progress import SILENT, Advance, Progress
from api.schemas import RevisionBody
from api.workflows.pull import PullOptions, WantedEncoding, beside, checked_files, find_encoding
from compress import container, decompress
from compress.coarsen import coarsen
from compress.container import INDEX, LAYERS, SEAL_BYTES
from compress.container_read import TernFile
from compress.layers import Layers
from compress.places import find_tern
from compress.tensor_file import TensorFile
from registry.manifest_json import FileBody
from registry.refs import AdapterName, Reference
from registry.validation.adapter_files import TERN_SUFFIXES

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class CountedLayers:
    """Say how many layers of a file are meant.

    Attributes:
        count: how many, 1 or more.
        of: how many the whole file has.
        error: relative error of ΔW that is left with them, as the file records it.
    """

    count: int
    of: int
    error: float

    def __str__(self) -> str:
        return f"the first {self.count} of {self.of} layers, error of ΔW {self.error:.4f}"


@dataclass(frozen=True, slots=True)
class PulledLayers:
    """Tell what pulling layers did.

    Attributes:
        revision: what the layers are of.
        folder: where they are now.
        files: paths in it.
        layers: how many of how many.
        fetched_bytes: what came over the wire.
        whole_bytes: what the whole revision would have taken.
        decoded: whether it is an ordinary PEFT folder now, else a shorter `.tern`.
    """

    revision: RevisionBody
    folder: Path
    files: tuple[str, ...]
    layers: CountedLayers
    fetched_bytes: int
    whole_bytes: int
    decoded: bool


def open_layers(path: Path, layers: int) -> CountedLayers:
    """Check a `.tern`, which may end after so many layers, and say what they are.

    Args:
        path: the file, or a folder with one.
        layers: how many are wanted, 1 or more.

    Raises:
        NoLayersError: it has no layers, or fewer.
        TernError: it is damaged or ends before they do.
    """
    found = find_tern(path)
    with TensorFile(found, cut=True) as file:
        counted = _counted(found.name, _described(found.name, file), layers)
    with TernFile(found, layers=layers):
        return counted


def pull_layers(
    client: HubClient,
    reference: Reference,
    folder: Path,
    *,
    layers: int,
    options: PullOptions,
    progress: Progress = SILENT,
) -> PulledLayers:
    """Fetch the first layers of a revision beside `folder`, check them, and put them in place.

    Args:
        client: the hub.
        reference: a compressed revision; for the encoding `tern` one that was compressed will do.
        folder: where the coarser adapter goes.
        layers: how many, 1 or more.
        options: encoding, cache and whether files may be replaced.
        progress: who is told.

    Raises:
        NoLayersError: the revision has no layers, or fewer.
        HubError: the hub refuses, or has no such revision.
        HubUnreachableError: the hub is gone for good.
        TargetTakenError: the folder holds something else.
        TernError: what came is damaged.
    """
    revision = find_encoding(client, reference, options.encoding)
    files = checked_files(revision)
    tern = _tern_of(str(reference), files)
    fetcher = BlobFetcher(client, AdapterName.parse(revision.manifest.adapter), options.cache_dir)
    with beside(folder) as temporary:
        arrived = temporary / "arrived"
        for file in files:
            target = arrived / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with progress.task(f"fetching {file.path}", file.size_bytes) as advance:
                if file is tern:
                    _fetch_layers(fetcher, file, target, layers, advance)
                else:
                    fetcher.fetch(file, target, advance)
        counted = open_layers(arrived / tern.path, layers)
        result, decoded = _finished(arrived, tern, layers, options)
        names = place(result, folder, force=options.force)
    return PulledLayers(
        revision=revision,
        folder=folder,
        files=names,
        layers=counted,
        fetched_bytes=fetcher.fetched_bytes,
        whole_bytes=sum(file.size_bytes for file in files),
        decoded=decoded,
    )


def _finished(
    arrived: Path, tern: FileBody, layers: int, options: PullOptions
) -> tuple[Path, bool]:
    """Decode what arrived, or make a whole file of the cut one."""
    if options.encoding is WantedEncoding.PEFT:
        decoded = arrived.with_name("decoded")
        decompress(arrived, decoded, layers=layers)
        return decoded, True
    cut = arrived / tern.path
    whole = arrived.with_name("whole.tern")
    coarsen(cut, whole, layers)
    whole.replace(cut)
    return arrived, False


def _fetch_layers(
    fetcher: BlobFetcher, file: FileBody, target: Path, layers: int, advance: Advance
) -> None:
    """Fetch a `.tern` up to the end of a layer, finding out on the way where that is."""

    def fetch_to(size_bytes: int) -> None:
        fetcher.fetch_prefix(file, target, min(size_bytes, file.size_bytes), advance)

    target.touch()
    fetch_to(_LENGTH_BYTES)
    with target.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    fetch_to(_LENGTH_BYTES + min(length, container.MAX_HEADER_BYTES))
    with _as_long_as(target, file.size_bytes), _header(target) as header:
        _require_layers(file.path, header)
        index_bytes = min(header.tensors[INDEX].size_bytes, container.MAX_INDEX_BYTES)
        index_end = header.data_start + index_bytes
        layers_start = header.data_start + header.tensors[LAYERS].begin
    fetch_to(index_end)
    with _as_long_as(target, file.size_bytes), _header(target) as header:
        found = _described(file.path, header)
    _counted(file.path, found, layers)
    fetch_to(layers_start + found.start(layers))


def _header(path: Path) -> TensorFile:
    return TensorFile(path, max_header_bytes=container.MAX_HEADER_BYTES)


def _described(name: str, file: TensorFile) -> Layers:
    """Read how the layers lie from an index that is all there; its seal is checked later."""
    _require_layers(name, file)
    found = container.decode_index(file.read_bytes(INDEX, SEAL_BYTES), layered=True).layers
    if found is None:
        raise NoLayersError(name, actual="none at all")
    return found


@contextmanager
def _as_long_as(path: Path, size_bytes: int) -> Iterator[None]:
    """Let a file look as long as it will be: what is absent is a hole and takes no room."""
    arrived = path.stat().st_size
    os.truncate(path, size_bytes)
    try:
        yield
    finally:
        os.truncate(path, arrived)


def _tern_of(reference: str, files: tuple[FileBody, ...]) -> FileBody:
    found = [file for file in files if file.path.endswith(TERN_SUFFIXES)]
    if len(found) != 1:
        raise NoLayersError(reference, actual="it is not compressed")
    return found[0]


def _require_layers(name: str, file: TensorFile) -> None:
    method = file.metadata.get("method", "")
    if method in container.METHODS and method != container.RD:
        raise NoLayersError(name, actual=f"the method {method}")
    if not {INDEX, LAYERS} <= set(file.tensors):
        raise NoLayersError(name, actual="none at all")


def _counted(name: str, described: Layers, layers: int) -> CountedLayers:
    there = len(described.sizes)
    if layers > there:
        raise NoLayersError(name, expected=f"1 to {there} layers", actual=str(layers))
    return CountedLayers(layers, there, described.errors[layers - 1])
