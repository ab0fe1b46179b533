"""Build the catalog again from the store alone, after the database was lost.

Every record is verified; what is damaged or missing is reported and left out, and the rest is
restored. Tokens and the audit log are not in the store: make a new admin token afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from registry.catalog.database import Database
from registry.catalog.errors import DatabaseNotEmptyError
from registry.catalog.objects import ObjectKind, restore_objects
from registry.catalog.restore import RestoredAdapter, count_rows, restore_adapter, restore_bases
from registry.clock import Clock, time_text
from registry.digest import Digest
from registry.errors import StorageError, ValidationError
from registry.manifest import Manifest
from registry.manifest_json import decode
from registry.records import (
    ADAPTERS,
    BASE_MODELS,
    RefMove,
    decode_base,
    decode_move,
    manifest_key,
    parse_manifest_key,
    parse_series,
)
from registry.refs import AdapterName
from registry.storage.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class Damage:
    """Name something in the store that is not as it should be, and what is wrong with it."""

    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Say what was restored, and what could not be.

    Attributes:
        adapters: adapters with at least one branch or tag.
        revisions: revisions reached from these.
        base_models: base models.
        blobs: blobs found in the store.
        unreachable: manifests that nothing reaches; the collector removes them in time.
        damaged: records and blobs that are missing or not what they should be.
        note: what a rebuild cannot bring back.
    """

    adapters: int
    revisions: int
    base_models: int
    blobs: int
    unreachable: int
    damaged: tuple[Damage, ...]
    note: str = "tokens and the audit log are not in the store: make a new admin token"


@dataclass(slots=True)
class _Found:
    """Gather what the store tells."""

    blobs: dict[Digest, tuple[int, str]] = field(default_factory=dict)
    manifests: dict[Digest, tuple[int, str]] = field(default_factory=dict)
    reached: set[Digest] = field(default_factory=set)
    adapters: int = 0
    damaged: list[Damage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rebuilder:
    """Rebuild one registry's catalog.

    Attributes:
        database: an empty one.
        store: what is left.
        clock: tells the time.
    """

    database: Database
    store: BlobStore
    clock: Clock

    def rebuild(self) -> RebuildReport:
        """Fill the empty database with what the store's records tell.

        A rebuild that was stopped leaves the database empty or some adapters in it; point it at an
        empty one and start again.

        Raises:
            DatabaseNotEmptyError: the database holds something already.
            StorageError: the store or the database failed.
        """
        with self.database.read() as connection:
            rows = count_rows(connection)
        if rows:
            raise DatabaseNotEmptyError(rows)
        found = _Found()
        now = time_text(self.clock())
        for digest, stat in self.store.list():
            found.blobs[digest] = (stat.size_bytes, time_text(stat.stored_at))
        bases = self._restore_bases(found)
        keys = self.store.list_records(ADAPTERS)
        for name, group in groupby(keys, key=_adapter_part):
            self._restore_adapter(name, group, found, now)
        self.database.write(lambda c: restore_objects(c, ObjectKind.BLOB, found.blobs))
        self.database.write(lambda c: restore_objects(c, ObjectKind.MANIFEST, found.manifests))
        return RebuildReport(
            adapters=found.adapters,
            revisions=len(found.reached),
            base_models=bases,
            blobs=len(found.blobs),
            unreachable=len(found.manifests.keys() - found.reached),
            damaged=tuple(dict.fromkeys(found.damaged)),
        )

    def _restore_bases(self, found: _Found) -> int:
        states = []
        for key in _last_of_series(self.store.list_records(BASE_MODELS)):
            try:
                states.append(decode_base(self._read(key), key))
            except (StorageError, ValidationError) as error:
                found.damaged.append(Damage(key, error.message))
        self.database.write(lambda c: restore_bases(c, states))
        return sum(state.merged_into is None for state in states)

    def _read(self, key: str) -> bytes:
        return self.store.read_record(key) or b""

    def _restore_adapter(self, prefix: str, keys: Iterable[str], found: _Found, now: str) -> None:
        listed = list(keys)
        manifests = dict(_manifests(listed))
        found.manifests.update(dict.fromkeys(manifests, (0, now)))
        moves = self._moves(listed, found)
        if not moves:
            if manifests:
                found.damaged.append(Damage(prefix, "no branch or tag of it is left"))
            return
        name = moves[0].adapter
        chains = [self._chain(name, move.digest, found) for move in moves if move.digest]
        heads = [move.digest if move.digest in found.reached else None for move in moves]
        restored = RestoredAdapter(name, moves, heads, _parents_first(chains))
        self.database.write(lambda c: restore_adapter(c, restored))
        found.adapters += any(heads)

    def _moves(self, keys: Iterable[str], found: _Found) -> list[RefMove]:
        moves = []
        for key in _last_of_series(keys):
            try:
                moves.append(decode_move(self._read(key), key))
            except (StorageError, ValidationError) as error:
                found.damaged.append(Damage(key, error.message))
        return moves

    def _chain(
        self, name: AdapterName, head: Digest, found: _Found
    ) -> list[tuple[Digest, Manifest, str]]:
        """Return a revision and those before it, newest first, as far as they are whole."""
        chain: list[tuple[Digest, Manifest, str]] = []
        at: Digest | None = head
        while at is not None and at not in found.reached:
            loaded = self._load(name, at, found)
            if loaded is None:
                break
            found.reached.add(at)
            chain.append((at, *loaded))
            at = loaded[0].parent
        return chain

    def _load(
        self, name: AdapterName, digest: Digest, found: _Found
    ) -> tuple[Manifest, str] | None:
        """Return a manifest that is what its name says, or report why there is none."""
        key = manifest_key(name, digest)
        try:
            data = self._read(key)
            if Digest.of(data) != digest:
                raise _wrong("it is missing" if not data else "it is not what its name says")
            manifest = decode(data)
            if manifest.adapter != name:
                raise _wrong(f"it belongs to {manifest.adapter}")
        except (StorageError, ValidationError) as error:
            found.damaged.append(Damage(key, error.message))
            return None
        found.manifests[digest] = (len(data), manifest.created_at)
        self._check_blobs(manifest, digest, found)
        return manifest, data.decode()

    def _check_blobs(self, manifest: Manifest, digest: Digest, found: _Found) -> None:
        for file in manifest.files:
            size = found.blobs.get(file.digest, (None, ""))[0]
            if size != file.size_bytes:
                where = f"{file.path} of {manifest.adapter}@{digest.short}"
                what = "is missing" if size is None else f"has {size} bytes"
                found.damaged.append(Damage(str(file.digest), f"the blob of {where} {what}"))


def _wrong(detail: str) -> ValidationError:
    return ValidationError(detail)


def _adapter_part(key: str) -> str:
    return "/".join(key.split("/")[:3])


def _manifests(keys: Iterable[str]) -> Iterator[tuple[Digest, AdapterName]]:
    for key in keys:
        if parsed := parse_manifest_key(key):
            yield parsed[1], parsed[0]


def _last_of_series(keys: Iterable[str]) -> list[str]:
    """Return of every numbered series the record with the highest number."""
    last: dict[str, str] = {}
    for key in keys:  # sorted, so that a later one has a higher number
        if series := parse_series(key):
            last[series[0]] = key
    return list(last.values())


def _parents_first(
    chains: Iterable[list[tuple[Digest, Manifest, str]]],
) -> list[tuple[Digest, Manifest, str]]:
    return [revision for chain in chains for revision in reversed(chain)]
