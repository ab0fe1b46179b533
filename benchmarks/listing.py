"""Measure how fast an embedded hub lists and searches 20,000 revisions.

    .venv/bin/python -m benchmarks.listing [--revisions 20000] [--calls 300]

Two catalogs of equal size are seeded: many revisions of 2,000 adapters, and one revision of each of
20,000. Aim: p99 of 20 ms or less. The table goes to `benchmarks/results/listing.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy

from registry.base_names import base_key_of
from registry.catalog.restore import RestoredAdapter, restore_adapter, restore_bases
from registry.catalog.values import AdapterQuery
from registry.clock import time_text, utc_now
from registry.digest import Digest
from registry.manifest import ConfigSummary, FileEntry, LineageEdge, Manifest, Operation
from registry.manifest_json import encode
from registry.records import BaseState, RefMove
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry, RegistrySettings, open_registry

RESULTS = Path(__file__).parent / "results" / "listing.md"
BASES = tuple(f"org{n % 7}/base-model-{n}-{n}b" for n in range(40))
SHARED = Digest.of(b"the same configuration everywhere")


@dataclass(frozen=True)
class Catalog:
    """Say how many adapters there are, and how many revisions of all of them together."""

    title: str
    adapters: int
    revisions: int


def seed(registry: Registry, catalog: Catalog) -> list[AdapterName]:
    """Fill an empty registry's catalog with revisions whose weights nobody has."""
    now = time_text(utc_now())
    states = [_base(name, now) for name in BASES]
    registry.database.write(lambda c: restore_bases(c, states))
    names = [AdapterName(f"team-{n % 50}", f"expert-{n:05d}-sql") for n in range(catalog.adapters)]
    for start in range(0, len(names), 100):
        found = [
            _adapter(names[n], range(n, catalog.revisions, len(names)), now)
            for n in range(start, min(start + 100, len(names)))
        ]
        registry.database.write(partial(_restore, found))
    return names


def _restore(found: list[RestoredAdapter], connection: sqlalchemy.Connection) -> None:
    for adapter in found:
        restore_adapter(connection, adapter)


def _base(name: str, now: str) -> BaseState:
    return BaseState(base_key_of(name), name, (), None, {}, None, now, now, 1)


def _adapter(name: AdapterName, numbers: range, now: str) -> RestoredAdapter:
    """Make one adapter with a revision for each number, and a tag on every fifth."""
    base = BASES[numbers.start % len(BASES)]
    revisions: list[tuple[Digest, Manifest, str]] = []
    refs: list[tuple[RefKind, str, Digest]] = []
    for number in numbers:
        parent = revisions[-1][0] if revisions else None
        manifest = _manifest(name, number, base=base, parent=parent, now=now)
        data = encode(manifest)
        revisions.append((Digest.of(data), manifest, data.decode()))
        if number % 5 == 0:
            refs.append((RefKind.TAG, f"v{number}", revisions[-1][0]))
    refs.append((RefKind.BRANCH, "main", revisions[-1][0]))
    moves = [RefMove(name, kind, ref, at, 1, now, now, "LORA", base) for kind, ref, at in refs]
    return RestoredAdapter(name, moves, [at for _, _, at in refs], revisions)


def _manifest(
    name: AdapterName, number: int, *, base: str, parent: Digest | None, now: str
) -> Manifest:
    weights = Digest.of(f"weights {number}".encode())
    return Manifest(
        adapter=name,
        base_model=base,
        config=ConfigSummary(kind="LORA", base_model=base, rank=8, alpha=16.0),
        files=(
            FileEntry("adapter_config.json", SHARED, 33, "application/json"),
            FileEntry("adapter_model.safetensors", weights, 1 << 20, "application/octet-stream"),
        ),
        lineage=(LineageEdge(Operation.PARENT, name, parent),) if parent else (),
        message=f"run {number}",
        author="benchmark",
        created_at=now,
    )


def questions(registry: Registry, names: list[AdapterName]) -> dict[str, Callable[[], object]]:
    """Return what is asked, each with other values every time."""
    pick = random.Random(0)
    cursors = []
    cursor = None
    while True:
        page = registry.adapters.list(AdapterQuery(cursor=cursor, limit=50))
        cursor = page.next_cursor
        if cursor is None:
            break
        cursors.append(cursor)
    deep = registry.adapters.log(Reference(names[0]), limit=5).next_cursor
    readable = frozenset(f"team-{n}" for n in range(20))

    def ask(**fields: object) -> object:
        return registry.adapters.list(AdapterQuery(**fields))  # type: ignore[arg-type]  # by name

    return {
        "list, first page": ask,
        "list, deep page": lambda: ask(cursor=pick.choice(cursors)),
        "list, one namespace": lambda: ask(namespace=f"team-{pick.randrange(50)}"),
        "list, by base": lambda: ask(base=pick.choice(BASES)),
        "list, by kind": lambda: ask(kind="LORA", cursor=pick.choice(cursors)),
        "list, readable only": lambda: ask(readable=readable, cursor=pick.choice(cursors)),
        "search, common": lambda: ask(search="expert-0"),
        "search, rare": lambda: ask(search=f"{pick.randrange(len(names)):05d}-s"),
        "search, nothing": lambda: ask(search="no such adapter"),
        "log, first page": lambda: registry.adapters.log(Reference(pick.choice(names))),
        "log, next page": lambda: registry.adapters.log(Reference(names[0]), cursor=deep),
        "resolve": lambda: registry.adapters.resolve(Reference(pick.choice(names))),
        "adapter": lambda: registry.adapters.get(pick.choice(names)),
    }


def measure(ask: Callable[[], object], calls: int) -> tuple[float, float, float]:
    """Return median and p99 of the time that passed, and p99 of the processor's, in ms.

    The last is what others on a busy machine leave alone.
    """
    passed, worked = [], []
    for _ in range(calls):
        begin, busy = time.perf_counter(), time.thread_time()
        ask()
        worked.append((time.thread_time() - busy) * 1e3)
        passed.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(passed), _percentile(passed), _percentile(worked)


def _percentile(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


def table(catalog: Catalog, calls: int) -> list[str]:
    """Seed one catalog, ask everything, and return the rows of its table."""
    lines = [
        f"## {catalog.title}",
        "",
        "| question | p50 ms | p99 ms | p99 processor ms |",
        "|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        registry = open_registry(RegistrySettings(Path(folder)))
        names = seed(registry, catalog)
        for question, ask in questions(registry, names).items():
            ask()
            p50, p99, busy = measure(ask, calls)
            lines.append(f"| {question} | {p50:.2f} | {p99:.2f} | {busy:.2f} |")
            print(lines[-1], flush=True)
        registry.close()
    return [*lines, ""]


def _machine() -> str:
    return (
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"SQLAlchemy {sqlalchemy.__version__}."
    )


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revisions", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    total = options.revisions
    lines = [
        f"# Listing and searching {total:,} revisions, embedded",
        "",
        _machine(),
        f"{options.calls} calls each, pages of 50, one process. Aim: p99 ≤ 20 ms.",
        "",
    ]
    few = max(1, total // 10)
    for catalog in (
        Catalog(f"{total:,} revisions of {few:,} adapters", few, total),
        Catalog(f"{total:,} adapters of one revision", total, total),
    ):
        lines += table(catalog, options.calls)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
