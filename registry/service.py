"""Open a registry: the one object through which everything else is reached.

Start here. `open_registry` brings the database to the present layout, mends what a crash left
half told to the store, and returns a `Registry`, whose parts are small and used directly:

    registry.pushes       missing blobs, uploads, commits
    registry.adapters     listings, revisions, refs, lineage, files, deletion
    registry.bases        base models
    registry.tokens       who may do what
    registry.collector    removal of what nothing refers to
    registry.rebuilder    the catalog again from the store alone
    registry.verifier     every byte against its digest
    registry.jobs         long work: asked for, shown, cancelled
    registry.leases       long work: claimed, carried on, ended
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from registry.adapters import Adapters
from registry.base_models import BaseModels
from registry.blob_uploads import BlobUploads
from registry.catalog.database import Database, migrate
from registry.catalog.totals import count_all
from registry.catalog.values import Stats
from registry.clock import Clock, utc_now
from registry.collect import Collector
from registry.jobs.leases import Leases
from registry.jobs.queue import Jobs
from registry.pushes import Pushes, PushLimits
from registry.rebuild import Rebuilder
from registry.recorder import Recorder
from registry.storage.blobs import BlobStore
from registry.storage.stores import open_store
from registry.storage.uploads import DEFAULT_MAX_BLOB_BYTES, DEFAULT_MAX_STAGED_BYTES, Uploads
from registry.token_secrets import load_pepper
from registry.tokens import Tokens
from registry.validation.adapter_summary import TernReader
from registry.verify import Verifier


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Say where a registry keeps what, and how much of it.

    Attributes:
        data_dir: folder for everything that is not said to be elsewhere.
        database_url: SQLAlchemy URL; empty means SQLite in `data_dir`.
        store_url: what `open_store` takes; empty means a folder in `data_dir`.
        token_pepper: key of the tokens' hashes; empty means one kept in `data_dir`.
        max_files: most files in a revision.
        max_blob_bytes: longest single file.
        max_revision_bytes: longest revision.
        max_staged_bytes: most bytes of unfinished uploads.
        namespace_quota_bytes: most bytes that one namespace may hold.
        clock: tells the time.
        read_tern: looks inside a `.tern` that is pushed; None takes it as it is.
    """

    data_dir: Path
    database_url: str = ""
    store_url: str = ""
    token_pepper: str = field(default="", repr=False)
    max_files: int = 4096
    max_blob_bytes: int = DEFAULT_MAX_BLOB_BYTES
    max_revision_bytes: int = 256 << 30
    max_staged_bytes: int = DEFAULT_MAX_STAGED_BYTES
    namespace_quota_bytes: int = 1 << 50
    clock: Clock = utc_now
    read_tern: TernReader | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """Hold the parts of one registry; safe to share among threads."""

    settings: RegistrySettings
    database: Database
    store: BlobStore
    recorder: Recorder
    pushes: Pushes
    adapters: Adapters
    bases: BaseModels
    tokens: Tokens
    collector: Collector
    rebuilder: Rebuilder
    verifier: Verifier
    jobs: Jobs
    leases: Leases

    def stats(self) -> Stats:
        """Count what the registry holds."""
        with self.database.read() as connection:
            return count_all(connection)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def open_registry(settings: RegistrySettings) -> Registry:
    """Open a registry, made if it is new, and mend what a crash left undone.

    Raises:
        DatabaseError: the database cannot be used.
        StorageError: the store cannot be used, or knows more than the database.
        ValidationError: a URL names nothing that there is.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    registry = join_registry(settings, new=True)
    registry.recorder.record_bases()
    registry.recorder.record_moves()
    return registry


def join_registry(settings: RegistrySettings, *, new: bool = False) -> Registry:
    """Open a registry that another process opened before, which takes less time.

    Args:
        settings: those of that process.
        new: bring the database to the present layout all the same.

    Raises:
        DatabaseError: the database cannot be used.
        StorageError: the store cannot be used.
        ValidationError: a URL names nothing that there is.
    """
    folder = settings.data_dir
    database = Database(settings.database_url or f"sqlite:///{folder / 'registry.sqlite'}")
    if new:
        migrate(database)
    store = open_store(settings.store_url or str(folder / "store"))
    return _assemble(settings, database, store)


def _assemble(settings: RegistrySettings, database: Database, store: BlobStore) -> Registry:
    clock, recorder = settings.clock, Recorder(database, store)
    uploads = Uploads(
        settings.data_dir / "uploads",
        max_blob_bytes=settings.max_blob_bytes,
        max_staged_bytes=settings.max_staged_bytes,
    )
    blobs = BlobUploads(database, store, uploads, clock, settings.namespace_quota_bytes)
    limits = PushLimits(settings.max_files, settings.max_revision_bytes)
    adapters = Adapters(database, store, recorder, clock)
    return Registry(
        settings=settings,
        database=database,
        store=store,
        recorder=recorder,
        pushes=Pushes(blobs, recorder, limits, settings.read_tern),
        adapters=adapters,
        bases=BaseModels(database, recorder, clock),
        tokens=Tokens(database, _pepper(settings), clock),
        collector=Collector(database, store, uploads, clock),
        rebuilder=Rebuilder(database, store, clock),
        verifier=Verifier(database, store, adapters),
        jobs=Jobs(database, clock),
        leases=Leases(database, store, clock),
    )


def _pepper(settings: RegistrySettings) -> bytes:
    if settings.token_pepper:
        return hashlib.sha256(settings.token_pepper.encode()).digest()
    return load_pepper(settings.data_dir / "token-pepper")
