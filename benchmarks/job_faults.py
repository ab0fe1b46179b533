"""Kill jobs and workers at random for minutes, and check that no job is lost or publishes twice.

    .venv/bin/python -m benchmarks.job_faults [--jobs 200] [--workers 4] [--seconds 120] [--only X]

Runs on SQLite, on the PostgreSQL that TEST_DATABASE_URL names, if it names one, and on a Ray
cluster of two nodes on this machine, the second of which is killed and replaced all the time. Every
third job publishes a revision, the others go on from a checkpoint after each of five steps; some
are cancelled. The table goes to `benchmarks/results/job_faults.md`, in which a run with `--only`
leaves the other rows as they are; the exit status is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import create_engine, text

from tests.faults import Damage, Storm, settings_for, storm
from tests.jobs_kit import opened

_NODE_S = 20.0
RESULTS = Path(__file__).parent / "results" / "job_faults.md"


@contextmanager
def fresh_schema(url: str) -> Iterator[str]:
    """Give the URL of an empty schema, and drop it afterwards."""
    schema = f"faults_{uuid4().hex[:12]}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    try:
        yield f"{url}?options={quote(f'-csearch_path={schema}')}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
        engine.dispose()


def run(weather: Storm, *, database_url: str = "", ray_address: str = "") -> Damage:
    """Run one storm on a hub of its own."""
    with tempfile.TemporaryDirectory(prefix="job-faults-") as name:
        settings = settings_for(Path(name) / "hub", database_url, ray_address=ray_address)
        with opened(settings) as registry:
            return storm(registry, settings, weather)


def run_on_ray(weather: Storm) -> Damage:
    """Run one storm on a Ray cluster whose second node is killed and replaced all the time."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    node = cluster.add_node(num_cpus=2)
    until = time.monotonic() + weather.kills_s
    with ThreadPoolExecutor(1) as pool:
        # Ray's nodes are begun in the main thread, or not at all.
        storming = pool.submit(run, weather, ray_address=cluster.address)
        while not storming.done():
            wait([storming], timeout=_NODE_S)
            if time.monotonic() < until:
                cluster.remove_node(node, allow_graceful=False)
                node = cluster.add_node(num_cpus=2)
    cluster.shutdown()
    return storming.result()


def storms(weather: Storm, only: str) -> Iterator[tuple[str, Damage]]:
    """Run the storms that can be run here, or the one that is asked for."""
    if only in {"", "sqlite"}:
        yield "SQLite", run(weather)
    url = os.environ.get("TEST_DATABASE_URL", "")
    if url and only in {"", "postgresql"}:
        with fresh_schema(url) as own:
            yield "PostgreSQL", run(weather, database_url=own)
    if only in {"", "ray"} and find_spec("ray") is not None:
        shared = replace(weather, workers=2, slots=max(1, weather.workers // 2))
        yield "SQLite, two Ray nodes", run_on_ray(shared)


def row(title: str, damage: Damage) -> str:
    """Return a line of the table."""
    states = ", ".join(f"{n} {state}" for state, n in sorted(damage.states.items()))
    cells = (
        title,
        states,
        str(damage.attempts),
        f"{damage.killed_jobs} + {damage.killed_workers}",
        str(damage.resumed),
        str(damage.published),
        f"{damage.seconds:.0f}",
        str(len(damage.wrong)),
        f"{os.getloadavg()[0]:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _machine() -> str:
    return f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}."


def _kept(found: Mapping[str, Damage]) -> list[str]:
    """Return the rows of earlier runs that this one did not make anew."""
    before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = [line for line in before if line.startswith("| ") and not line.startswith("| database")]
    return [line for line in rows if line.split(" | ")[0].removeprefix("| ") not in found]


def main() -> None:
    """Run the storms, print what they did and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", choices=["sqlite", "postgresql", "ray"], default="")
    options = parser.parse_args()
    weather = Storm(options.jobs, options.workers, kills_s=options.seconds)
    found: dict[str, Damage] = {}
    rows = []
    for title, damage in storms(weather, options.only):
        found[title] = damage
        rows.append(row(title, damage))
    head = f"{options.jobs} jobs, {options.workers} workers, killed for {options.seconds:g} s"
    columns = "database | jobs in the end | attempts | killed: jobs + workers | resumed | revisions"
    lines = [
        f"# {head}",
        "",
        _machine(),
        "",
        f"| {columns} | seconds | wrong | load after |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *_kept(found),
        *rows,
        "",
    ]
    print("\n".join(lines))
    wrong = [sentence for damage in found.values() for sentence in damage.wrong]
    print("\n".join(wrong))
    RESULTS.write_text("\n".join(lines))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
