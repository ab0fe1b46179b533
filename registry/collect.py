"""Collect garbage while pushes run: what no revision needs and nobody touched for a grace time.

Revisions are removed with the last ref that reaches them, so what is needed is what the files of
the present revisions name. Collected are blobs, manifests, unfinished uploads, what a namespace
holds without need, and those moves of refs that a later move made void.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registry.catalog.audit import append_audit
from registry.catalog.collection import (
    Candidate,
    candidates,
    condemn,
    condemn_orphan,
    drop_idle_holdings,
    forget,
    idle_holdings,
)
from registry.catalog.database import Database
from registry.catalog.objects import ObjectKind, in_batches, known
from registry.catalog.values import AuditEntry
from registry.clock import Clock, time_before, time_text
from registry.digest import Digest
from registry.errors import ValidationError
from registry.manifest_json import decode
from registry.records import (
    ADAPTERS,
    BASE_MODELS,
    manifest_key,
    parse_manifest_key,
    parse_series,
)
from registry.refs import AdapterName
from registry.storage.blobs import BlobStore
from registry.storage.uploads import Uploads

DEFAULT_GRACE_S = 24 * 3600.0
ABANDONED_AFTER_S = 3600.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class GcReport:
    """Say what was collected, or with `dry_run` what would be.

    Attributes:
        dry_run: whether nothing was removed.
        blobs: blobs, in order of digest.
        manifests: manifests of revisions that are gone, in order of digest.
        size_bytes: their bytes.
        records: moves that a later move made void.
        holdings: blobs that a namespace held without need.
        uploads: unfinished uploads; not counted in a dry run.
    """

    dry_run: bool
    blobs: tuple[Digest, ...]
    manifests: tuple[Digest, ...]
    size_bytes: int
    records: int
    holdings: int
    uploads: int


@dataclass(slots=True)
class _Run:
    """Gather what one run finds."""

    cutoff: str
    abandoned: str
    dry_run: bool
    found: list[Candidate] = field(default_factory=list)
    records: int = 0


@dataclass(frozen=True, slots=True)
class Collector:
    """Collect what nothing needs.

    Attributes:
        database: the catalog.
        store: where the blobs are.
        uploads: where unfinished uploads are.
        clock: tells the time.
    """

    database: Database
    store: BlobStore
    uploads: Uploads
    clock: Clock

    def collect(
        self, grace_s: float = DEFAULT_GRACE_S, *, dry_run: bool = False, principal: str = ""
    ) -> GcReport:
        """Remove what was not needed nor touched for `grace_s` seconds.

        Pushes may run meanwhile: none that is acknowledged loses anything. With a grace shorter
        than a push takes, a push may have to send a blob again.

        Raises:
            ValidationError: the grace is negative.
            StorageError: the store failed; what is left is collected by a later run.
        """
        if not 0 <= grace_s <= 1e10:
            raise ValidationError(
                "this grace time is not allowed",
                field="grace_s",
                expected="0 or more seconds",
                actual=str(grace_s),
            )
        now = self.clock()
        run = _Run(time_before(now, grace_s), time_before(now, ABANDONED_AFTER_S), dry_run)
        holdings = self._drop_holdings(run)
        self._collect_known(run)
        self._collect_orphan_blobs(run)
        self._walk_records(run)
        uploads = 0
        if not dry_run:
            uploads = self.uploads.discard_stale(older_than_s=grace_s)
            self.store.discard_stale(older_than_s=max(grace_s, ABANDONED_AFTER_S))
        report = _report(run, holdings=holdings, uploads=uploads)
        if not dry_run:
            subject = f"{len(report.blobs)} blobs, {len(report.manifests)} manifests"
            act = AuditEntry(time_text(now), principal, "gc", subject)
            self.database.write(lambda c: append_audit(c, act))
        return report

    def _collect_known(self, run: _Run) -> None:
        """Collect blobs that have a row; manifests wait until their names are known."""
        for page in self._pages(run):
            blobs = [found for found in page if found.kind is ObjectKind.BLOB]
            run.found += blobs if run.dry_run else self._remove(run, blobs, {})

    def _pages(self, run: _Run) -> Iterator[list[Candidate]]:
        after = 0
        while True:
            with self.database.read() as connection:
                page = candidates(
                    connection,
                    cutoff=run.cutoff,
                    abandoned=run.abandoned,
                    after=after,
                    limit=BATCH,
                )
            if not page:
                return
            yield page
            after = page[-1].number

    def _remove(
        self, run: _Run, found: list[Candidate], owners: Mapping[Digest, AdapterName]
    ) -> list[Candidate]:
        """Condemn candidates, delete those that may still go, and return them."""
        if not found:
            return []
        now = time_text(self.clock())
        condemned = self.database.write(
            lambda c: condemn(c, found, cutoff=run.cutoff, abandoned=run.abandoned, now=now)
        )
        self._delete(condemned, owners)
        return condemned

    def _delete(self, gone: list[Candidate], owners: Mapping[Digest, AdapterName]) -> None:
        for candidate in gone:
            if candidate.kind is ObjectKind.BLOB:
                self.store.delete(candidate.digest)
            elif owner := owners.get(candidate.digest):
                self.store.delete_record(manifest_key(owner, candidate.digest))
        self.database.write(lambda c: forget(c, gone))

    def _collect_orphan_blobs(self, run: _Run) -> None:
        """Collect blobs that no row tells of: a database was lost, or a crash came between."""
        old = (
            (digest, stat.size_bytes)
            for digest, stat in self.store.list()
            if time_text(stat.stored_at) < run.cutoff
        )
        for batch in in_batches(old, BATCH):
            for digest, size in self._without_row(dict(batch), ObjectKind.BLOB).items():
                self._collect_orphan(run, ObjectKind.BLOB, digest, size, None)

    def _without_row(self, sizes: dict[Digest, int], kind: ObjectKind) -> dict[Digest, int]:
        with self.database.read() as connection:
            there = known(connection, list(sizes), kind)
        return {digest: size for digest, size in sizes.items() if digest not in there}

    def _collect_orphan(
        self, run: _Run, kind: ObjectKind, digest: Digest, size: int, owner: AdapterName | None
    ) -> None:
        if run.dry_run:
            run.found.append(Candidate(0, kind, digest, size))
            return
        now = time_text(self.clock())
        gone = self.database.write(
            lambda c: condemn_orphan(c, kind, digest, size_bytes=size, now=now)
        )
        if gone is not None:
            self._delete([gone], {digest: owner} if owner else {})
            run.found.append(gone)

    def _walk_records(self, run: _Run) -> None:
        """Collect manifests without a revision, and moves that a later move made void."""
        idle = {
            found.digest: found
            for page in self._pages(run)
            for found in page
            if found.kind is ObjectKind.MANIFEST
        }
        seen: set[Digest] = set()
        for batch in in_batches(self._manifests_and_prune(run), BATCH):
            owners = {digest: adapter for adapter, digest in batch}
            seen |= owners.keys() & idle.keys()
            named = [idle[digest] for digest in owners if digest in idle]
            run.found += named if run.dry_run else self._remove(run, named, owners)
            unknown = self._without_row(
                dict.fromkeys(owners.keys() - idle.keys(), 0), ObjectKind.MANIFEST
            )
            for digest in sorted(unknown):
                self._collect_orphan_manifest(run, owners[digest], digest)
        lost = [found for digest, found in idle.items() if digest not in seen]
        run.found += lost if run.dry_run else self._remove(run, lost, {})

    def _collect_orphan_manifest(self, run: _Run, adapter: AdapterName, digest: Digest) -> None:
        data = self.store.read_record(manifest_key(adapter, digest))
        try:
            created_at = decode(data).created_at if data is not None else run.cutoff
        except ValidationError:
            return  # not ours to judge: `rebuild` and `verify` report it
        if data is not None and created_at < run.cutoff:
            self._collect_orphan(run, ObjectKind.MANIFEST, digest, len(data), adapter)

    def _manifests_and_prune(self, run: _Run) -> Iterator[tuple[AdapterName, Digest]]:
        """Yield every manifest in the store, and drop void moves on the way."""
        before: tuple[str, str] | None = None
        for prefix in (ADAPTERS, BASE_MODELS):
            for key in self.store.list_records(prefix):
                manifest = parse_manifest_key(key)
                if manifest is not None:
                    yield manifest
                series = parse_series(key)
                if series is None:
                    continue
                if before is not None and before[0] == series[0]:
                    run.records += 1
                    if not run.dry_run:
                        self.store.delete_record(before[1])
                before = (series[0], key)

    def _drop_holdings(self, run: _Run) -> int:
        if run.dry_run:
            with self.database.read() as connection:
                return idle_holdings(connection, run.cutoff)
        return self.database.write(lambda c: drop_idle_holdings(c, run.cutoff))


def _report(run: _Run, *, holdings: int, uploads: int) -> GcReport:
    def digests(kind: ObjectKind) -> tuple[Digest, ...]:
        return tuple(sorted(found.digest for found in run.found if found.kind is kind))

    return GcReport(
        dry_run=run.dry_run,
        blobs=digests(ObjectKind.BLOB),
        manifests=digests(ObjectKind.MANIFEST),
        size_bytes=sum(found.size_bytes for found in run.found),
        records=run.records,
        holdings=holdings,
        uploads=uploads,
    )
