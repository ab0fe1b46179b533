"""State how a registry is collected, rebuilt, mended and verified, on every database."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial

import pytest
from sqlalchemy import Connection, Update

from registry.catalog.collection import candidates, condemn
from registry.catalog.errors import (
    BlobBusyError,
    DatabaseNotEmptyError,
    StoreAheadError,
)
from registry.catalog.objects import ObjectKind, announce, confirm
from registry.catalog.tables import base_models, refs
from registry.catalog.values import AdapterQuery, Role
from registry.clock import time_text, utc_now
from registry.collect import GcReport
from registry.digest import Digest
from registry.errors import RegistryError, ValidationError
from registry.manifest import LineageEdge, Operation
from registry.records import manifest_key
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry
from tests.registry_kit import TRANSIENT, Place, adapter_files, at, push, send, snapshot

NAME = AdapterName("team", "x")
LATER = "2027-01-01T00:00:00.000Z"


def stored(registry: Registry) -> set[Digest]:
    """Return every blob in the store."""
    return {digest for digest, _ in registry.store.list()}


def blobs(*seeds: int) -> set[Digest]:
    """Return the digests of the weights of some adapters, which differ by seed."""
    return {Digest.of(adapter_files(seed)["adapter_model.safetensors"]) for seed in seeds}


def _run(change: Update, connection: Connection) -> int:
    return connection.execute(change).rowcount


def intact(registry: Registry) -> None:
    """Check that every revision has every byte."""
    bad = [verdict for verdict in registry.verifier.verify() if not verdict.ok]
    assert not bad


class CollectionContract:
    """Collect garbage; a subclass gives `place`. Blobs' own times are those of the real clock."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        place.clock.now = utc_now()
        return place.open()

    def test_nothing_that_is_needed_goes(self, registry: Registry, place: Place) -> None:
        push(registry, "team/x", adapter_files(0))
        push(registry, "team/x", adapter_files(1), tags=("v1",))
        place.clock.advance(1e6)
        before = snapshot(registry)
        report = registry.collector.collect(0)
        assert (report.blobs, report.manifests, report.holdings) == ((), (), 0)
        assert report.records == 1
        assert snapshot(registry) == before
        intact(registry)

    def test_what_a_deletion_left_goes_after_the_grace(
        self, registry: Registry, place: Place
    ) -> None:
        push(registry, "team/x", adapter_files(0))
        gone = push(registry, "team/x", adapter_files(1), branch="dev").revision
        registry.adapters.delete_ref(NAME, RefKind.BRANCH, "dev")
        assert registry.collector.collect(3600).blobs == ()
        place.clock.advance(3601)
        wanted = registry.collector.collect(3600, dry_run=True)
        assert set(wanted.blobs) == blobs(1)
        assert wanted.manifests == (gone.digest,)
        assert blobs(1) < stored(registry)
        done = registry.collector.collect(3600, principal="ops")
        assert (done.blobs, done.manifests, done.size_bytes, done.records, done.holdings) == (
            wanted.blobs,
            wanted.manifests,
            wanted.size_bytes,
            wanted.records,
            wanted.holdings,
        )
        assert not blobs(1) & stored(registry)
        assert registry.store.read_record(manifest_key(NAME, gone.digest)) is None
        assert registry.adapters.audit(limit=1).items[0].action == "gc"
        intact(registry)

    def test_a_dry_run_removes_nothing(self, registry: Registry, place: Place) -> None:
        push(registry, "team/x", adapter_files(0))
        push(registry, "team/x", adapter_files(1))
        registry.adapters.delete(NAME)
        place.clock.advance(10)
        records = list(registry.store.list_records(""))
        first = registry.collector.collect(0, dry_run=True)
        assert first == registry.collector.collect(0, dry_run=True)
        assert list(registry.store.list_records("")) == records
        assert blobs(0, 1) < stored(registry)
        assert len(first.blobs) == 3
        assert first.records == 2

    def test_what_is_sent_but_not_pushed_is_spared_for_a_while(
        self, registry: Registry, place: Place
    ) -> None:
        send(registry, "team", adapter_files(0))
        place.clock.advance(100)
        assert registry.collector.collect(3600).blobs == ()
        assert send(registry, "team", adapter_files(0)) == 0  # asks again, and so keeps it
        place.clock.advance(3599)
        assert registry.collector.collect(3600).blobs == ()
        place.clock.advance(2)
        assert len(registry.collector.collect(3600).blobs) == 2
        assert send(registry, "team", adapter_files(0)) == 2
        assert push(registry, "team/x", adapter_files(0)).created

    def test_a_shared_blob_stays_and_is_forgotten_by_who_let_go(
        self, registry: Registry, place: Place
    ) -> None:
        push(registry, "team/x")
        push(registry, "rival/x")
        registry.adapters.delete(NAME)
        place.clock.advance(10)
        report = registry.collector.collect(0)
        assert (report.blobs, report.holdings) == ((), 2)
        assert send(registry, "rival", adapter_files()) == 0
        assert send(registry, "team", adapter_files()) == 2
        intact(registry)

    def test_orphans_of_the_store_go(self, registry: Registry, place: Place) -> None:
        push(registry, "team/x")
        orphan = Digest.of(b"nobody's")
        registry.store.put_bytes(orphan, b"nobody's")
        data = adapter_files()["adapter_config.json"]
        lost = registry.store.read_record(manifest_key(NAME, at(registry, "team/x").digest))
        assert lost is not None
        stray = Digest.of(lost + b" ")
        registry.store.write_record(manifest_key(NAME, stray), lost + b" ")
        assert registry.collector.collect(3600).blobs == ()
        place.clock.advance(4000)
        report = registry.collector.collect(3600)
        assert (report.blobs, report.manifests) == ((orphan,), (stray,))
        assert stored(registry) == blobs(0) | {Digest.of(data)}
        intact(registry)

    def test_an_unreadable_manifest_is_left_alone(self, registry: Registry, place: Place) -> None:
        key = manifest_key(NAME, Digest.of(b"?"))
        registry.store.write_record(key, b"not a manifest")
        place.clock.advance(1e6)
        assert registry.collector.collect(0).manifests == ()
        assert registry.store.read_record(key) is not None

    def test_a_blob_being_deleted_is_busy_until_it_is_gone(
        self, registry: Registry, place: Place
    ) -> None:
        files = adapter_files()
        send(registry, "team", files)
        place.clock.advance(10)
        with registry.database.read() as connection:
            found = candidates(connection, cutoff=LATER, abandoned="", after=0, limit=9)
        now = time_text(place.clock())
        marked = registry.database.write(
            lambda c: condemn(c, found, cutoff=LATER, abandoned="", now=now)
        )
        assert len(marked) == 2
        with pytest.raises(BlobBusyError) as caught:
            send(registry, "team", files)
        assert caught.value.retry_after_s > 0
        place.clock.advance(3700)  # whoever marked them died: a later run finishes the work
        assert len(registry.collector.collect(1e9).blobs) == 2
        assert send(registry, "team", files) == 2
        intact(registry)

    def test_a_touched_blob_is_not_condemned(self, registry: Registry, place: Place) -> None:
        send(registry, "team", adapter_files())
        with registry.database.read() as connection:
            found = candidates(connection, cutoff=LATER, abandoned="", after=0, limit=9)
        push(registry, "team/x")
        now = time_text(place.clock())
        assert not registry.database.write(
            lambda c: condemn(c, found, cutoff=LATER, abandoned="", now=now)
        )
        intact(registry)

    def test_a_confirmation_fails_after_a_collection(
        self, registry: Registry, place: Place
    ) -> None:
        digest, now = Digest.of(b"x"), time_text(place.clock())

        def begin() -> int:
            return registry.database.write(
                lambda c: announce(c, digest, kind=ObjectKind.BLOB, size_bytes=1, now=now)
            )

        first = begin()
        place.clock.advance(10)
        registry.collector.collect(0)
        second = begin()
        assert first != second
        assert not registry.database.write(lambda c: confirm(c, first, now=now))
        assert registry.database.write(lambda c: confirm(c, second, now=now))

    @pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
    def test_a_grace_is_a_number_of_seconds(self, registry: Registry, grace: float) -> None:
        with pytest.raises(ValidationError):
            registry.collector.collect(grace)

    def test_pushes_lose_nothing_while_collections_run(self, place: Place) -> None:
        registry = place.open(clock=utc_now)
        stop = threading.Event()
        reports: list[GcReport] = []
        failures: list[BaseException] = []

        def collect() -> None:
            while not stop.is_set():
                reports.append(registry.collector.collect(0.05))

        def work(worker: int) -> None:
            try:
                for number in range(6):
                    with suppress(*TRANSIENT):
                        send(registry, f"w{worker}", {"unused": f"{worker} {number}".encode()})
                    self._push_stubbornly(registry, worker, number)
            except RegistryError as error:
                failures.append(error)

        collector = threading.Thread(target=collect)
        workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in (collector, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        time.sleep(0.2)  # what was sent and never used is older than the grace now
        stop.set()
        collector.join()
        reports.append(registry.collector.collect(0.05))
        assert not failures, [repr(failure) for failure in failures]
        assert sum(len(report.blobs) for report in reports) > 0
        assert registry.stats().revisions == 18
        intact(registry)
        for record in registry.adapters.list(AdapterQuery()).items:
            for item in registry.adapters.log(Reference(record.name)).items:
                assert registry.store.read_record(manifest_key(record.name, item.digest))

    def _push_stubbornly(self, registry: Registry, worker: int, number: int) -> None:
        """Push again and again, as a client does whose blobs are collected under its hands."""
        files = adapter_files(worker * 100 + number) | {"README.md": b"shared by all"}
        for _ in range(500):
            with suppress(*TRANSIENT):
                push(registry, f"w{worker}/x", files, message=str(number))
                return
        push(registry, f"w{worker}/x", files, message=str(number))


class RebuildContract:
    """Lose the database and rebuild it from the store; a subclass gives `place`."""

    @pytest.fixture
    def full(self, place: Place) -> Registry:
        """Make a registry with a past: tags, branches, deletions, folded bases, lineage."""
        registry = place.open()
        push(registry, "team/x", adapter_files(0, base=None))
        push(registry, "team/x", adapter_files(1), tags=("v1", "rel/1_0"))
        push(registry, "team/x", adapter_files(2), branch="feature/x")
        push(registry, "team/x", adapter_files(3))
        registry.adapters.delete_ref(NAME, RefKind.BRANCH, "feature/x")
        push(registry, "team/gone", adapter_files(4))
        registry.adapters.delete(AdapterName("team", "gone"))
        push(registry, "team/again", adapter_files(5, base="other"))
        registry.adapters.delete(AdapterName("team", "again"))
        source = LineageEdge(Operation.COMPRESSED_FROM, NAME, at(registry, "team/x").digest)
        push(registry, "team/again", adapter_files(6), lineage=(source,), metrics={"m": 0.1})
        push(registry, "ann/y", adapter_files(7, base="nightly"))
        registry.bases.register("org/Tiny", aliases=["nightly"])
        push(registry, "ann/y", adapter_files(8, base="nightly"))
        registry.adapters.tag(Reference.parse("ann/y"), "v9")
        return registry

    def test_every_query_answers_the_same(self, full: Registry, place: Place) -> None:
        before = snapshot(full)
        rebuilt = place.open("rebuilt")
        report = rebuilt.rebuilder.rebuild()
        assert (report.adapters, report.damaged) == (3, ())
        assert report.revisions == full.stats().revisions
        assert report.unreachable == 3
        assert "token" in report.note
        assert snapshot(rebuilt) == before
        assert rebuilt.stats().namespaces.keys() == full.stats().namespaces.keys()
        intact(rebuilt)

    def test_life_goes_on_after_a_rebuild(self, full: Registry, place: Place) -> None:
        full.close()
        rebuilt = place.open("rebuilt")
        rebuilt.rebuilder.rebuild()
        again = push(rebuilt, "team/x", adapter_files(3))
        assert not again.created
        assert send(rebuilt, "team", adapter_files(3)) == 0
        push(rebuilt, "team/x", adapter_files(20))
        push(rebuilt, "team/gone", adapter_files(21))
        rebuilt.adapters.delete_ref(NAME, RefKind.TAG, "v1")
        twice = place.open("twice")
        assert twice.rebuilder.rebuild().damaged == ()
        assert snapshot(twice) == snapshot(rebuilt)

    def test_a_collection_keeps_what_a_rebuild_needs(self, full: Registry, place: Place) -> None:
        place.clock.now = utc_now()
        place.clock.advance(1e6)
        before = snapshot(full)
        assert full.collector.collect(0).manifests
        rebuilt = place.open("rebuilt")
        report = rebuilt.rebuilder.rebuild()
        assert (report.damaged, report.unreachable) == ((), 0)
        assert snapshot(rebuilt) == before
        assert report.blobs == len(stored(full))
        after = rebuilt.collector.collect(0)
        assert (after.blobs, after.manifests, after.records) == ((), (), 0)
        assert snapshot(rebuilt) == before

    def test_only_an_empty_database_is_filled(self, full: Registry) -> None:
        with pytest.raises(DatabaseNotEmptyError, match=r"is not empty: [0-9]+ rows"):
            full.rebuilder.rebuild()

    def test_tokens_do_not_come_back(self, full: Registry, place: Place) -> None:
        full.tokens.create("*", Role.ADMIN)
        rebuilt = place.open("rebuilt")
        rebuilt.rebuilder.rebuild()
        assert rebuilt.tokens.list() == ()

    def test_damage_is_reported_and_passed_over(self, full: Registry, place: Place) -> None:
        store, head = full.store, at(full, "team/x")
        parent = head.manifest.parent
        assert parent is not None
        store.write_record(manifest_key(NAME, parent), b"{}")
        store.write_record("adapters/ann/y/refs/tags/v9/0000000001.json", b"scribble")
        store.write_record("base_models/broken/0000000001.json", b"scribble")
        store.delete(head.manifest.files[0].digest)
        rebuilt = place.open("rebuilt")
        report = rebuilt.rebuilder.rebuild()
        damaged = {damage.key for damage in report.damaged}
        assert damaged == {
            manifest_key(NAME, parent),
            "adapters/ann/y/refs/tags/v9/0000000001.json",
            "base_models/broken/0000000001.json",
            str(head.manifest.files[0].digest),
        }
        assert [r.digest for r in rebuilt.adapters.log(Reference(NAME)).items] == [head.digest]
        record = rebuilt.adapters.get(AdapterName("ann", "y"))
        assert [ref.name for ref in (*record.branches, *record.tags)] == ["main"]
        assert push(rebuilt, "team/x", adapter_files(30)).created
        place.open("rebuilt")

    def test_a_head_that_is_lost_takes_its_branch_along(self, full: Registry, place: Place) -> None:
        head = at(full, "ann/y").digest
        full.store.delete_record(manifest_key(AdapterName("ann", "y"), head))
        rebuilt = place.open("rebuilt")
        report = rebuilt.rebuilder.rebuild()
        assert (report.adapters, len(report.damaged)) == (2, 1)
        assert "missing" in report.damaged[0].detail
        assert push(rebuilt, "ann/y", adapter_files(31)).created


class VerifyContract:
    """Compare what is stored with its digests, and mend what a crash left; gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_good_revisions_are_good(self, registry: Registry) -> None:
        push(registry, "team/x")
        push(registry, "team/y", message="y")
        verdicts = list(registry.verifier.verify())
        assert [(str(v.adapter), v.path) for v in verdicts if v.ok] == [
            (name, path)
            for name in ("team/x", "team/y")
            for path in ("(manifest)", "adapter_config.json", "adapter_model.safetensors")
        ]
        assert len(list(registry.verifier.verify(Reference(NAME)))) == 3

    def test_every_kind_of_loss_is_found(self, registry: Registry, place: Place) -> None:
        revision = push(registry, "team/x").revision
        config, weights = (entry.digest for entry in revision.manifest.files)
        registry.store.delete(config)
        (path,) = place.folder.joinpath("store").rglob(weights.hex)
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        registry.store.write_record(manifest_key(NAME, revision.digest), b"{}")
        verdicts = list(registry.verifier.verify(Reference(NAME)))
        assert [verdict.ok for verdict in verdicts] == [False, False, False]
        details = [verdict.detail for verdict in verdicts]
        assert "the stored manifest is" in details[0]
        assert "no blob" in details[1]
        assert "do not match" in details[2]
        registry.store.delete_record(manifest_key(NAME, revision.digest))
        first = next(registry.verifier.verify(Reference(NAME)))
        assert "missing from the store" in first.detail

    def test_an_unrecorded_move_is_recorded_at_the_next_start(
        self, registry: Registry, place: Place
    ) -> None:
        push(registry, "team/x", tags=("v1",))
        keys = list(registry.store.list_records(""))
        moves = [key for key in keys if "/refs/" in key or key.startswith("base_models/")]
        kept = {key: registry.store.read_record(key) for key in moves}
        assert len(kept) == 3
        for key in moves:
            registry.store.delete_record(key)
        for table in (refs, base_models):
            change = table.update().values(recorded=False)
            registry.database.write(partial(_run, change))
        again = place.open()
        assert {key: again.store.read_record(key) for key in moves} == kept

    def test_a_store_that_knows_more_is_not_overwritten(
        self, registry: Registry, place: Place
    ) -> None:
        push(registry, "team/x")
        other = place.open("older")
        with pytest.raises(StoreAheadError) as caught:
            push(other, "team/x", adapter_files(1))
        assert "base_models" in caught.value.key or "refs" in caught.value.key
        assert "rebuild" in caught.value.hint
