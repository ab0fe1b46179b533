"""Open registries for tests, and push small adapters into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from registry.catalog.errors import BlobBusyError, BlobsMissingError
from registry.catalog.values import AdapterQuery, RevisionRecord
from registry.digest import Digest
from registry.push_request import PushFile, PushRequest, PushResult
from registry.refs import AdapterName, Reference
from registry.service import Registry, RegistrySettings, open_registry
from registry.storage.blobs import BlobNotFoundError
from registry.storage.upload_session import OffsetMismatchError
from registry.storage.uploads import UploadBusyError
from tests.safetensors_files import config, good_file, lora

# What a client meets whose blobs are collected under its hands, and answers by trying again.
TRANSIENT = (
    BlobsMissingError,
    BlobBusyError,
    BlobNotFoundError,
    OffsetMismatchError,
    UploadBusyError,
)
MODULES = ("layers.0.q", "layers.0.v")


class TickingClock:
    """Tell a time that is one millisecond later with every question, and later on demand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass
class Place:
    """Be where the registries of one test live: each name is a database, one store serves all.

    Attributes:
        folder: for everything on this disk.
        url_of: makes the URL of a fresh, empty database from a name.
        store_url: the store; empty means a folder here.
    """

    folder: Path
    url_of: Callable[[str], str]
    store_url: str = ""
    clock: TickingClock = field(default_factory=TickingClock)
    opened: list[Registry] = field(default_factory=list)

    def open(self, database: str = "main", **settings: Any) -> Registry:
        """Open a registry on a database; opening it again finds what was there."""
        registry = open_registry(
            RegistrySettings(
                self.folder,
                database_url=self.url_of(database),
                store_url=self.store_url or str(self.folder / "store"),
                clock=settings.pop("clock", self.clock),
                **settings,
            )
        )
        self.opened.append(registry)
        return registry

    def close(self) -> None:
        """Close every registry that was opened here."""
        for registry in self.opened:
            registry.close()


def adapter_files(
    seed: int = 0,
    *,
    base: str | None = "tiny",
    d_out: int = 6,
    modules: tuple[str, ...] = MODULES,
    **fields: Any,
) -> dict[str, bytes]:
    """Return the files of a small LoRA adapter; equal seeds give equal bytes."""
    targets = sorted({module.rpartition(".")[2] for module in modules})
    return {
        "adapter_config.json": config(
            base_model_name_or_path=base, target_modules=targets, **fields
        ),
        "adapter_model.safetensors": good_file(lora(modules, d_out=d_out, seed=seed)),
    }


def push_files(files: Mapping[str, bytes]) -> tuple[PushFile, ...]:
    """Describe files as a push does."""
    return tuple(PushFile(p, Digest.of(data), len(data)) for p, data in sorted(files.items()))


def send(registry: Registry, namespace: str, files: Mapping[str, bytes]) -> int:
    """Send the blobs that are missing, and return how many there were."""
    by_digest = {Digest.of(data): data for data in files.values()}
    sizes = {digest: len(data) for digest, data in by_digest.items()}
    missing = registry.pushes.missing(namespace, sizes)
    for blob in missing:
        data = by_digest[blob.digest]
        with registry.pushes.upload(
            namespace, blob.digest, offset=blob.offset, size_bytes=len(data)
        ) as session:
            session.write(data[blob.offset :])
    return len(missing)


def push(
    registry: Registry, name: str, files: Mapping[str, bytes] | None = None, **fields: Any
) -> PushResult:
    """Send what is missing, and commit."""
    adapter = AdapterName.parse(name)
    files = adapter_files() if files is None else files
    send(registry, adapter.namespace, files)
    return registry.pushes.commit(PushRequest(adapter, push_files(files), **fields))


def at(registry: Registry, reference: str) -> RevisionRecord:
    """Resolve a reference written as people do."""
    return registry.adapters.resolve(Reference.parse(reference))


def snapshot(registry: Registry) -> dict[str, object]:
    """Return every answer that a rebuilt catalog must give alike."""
    adapters = registry.adapters.list(AdapterQuery(limit=1000)).items
    found: dict[str, object] = {"adapters": adapters, "bases": registry.bases.list()}
    for record in adapters:
        for ref in (*record.branches, *record.tags):
            reference = Reference(record.name, ref.name)
            log = registry.adapters.log(reference, limit=1000).items
            found[f"log {reference}"] = log
            for revision in log:
                pinned = Reference(record.name, digest=revision.digest)
                found[f"lineage {pinned}"] = registry.adapters.lineage(pinned)
    for search in ("a", "tiny", "b"):
        query = AdapterQuery(search=search, limit=1000)
        found[f"search {search}"] = registry.adapters.list(query)
    return found
