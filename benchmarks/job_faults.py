"""Kill jobs and workers at random for minutes, and check that no job is lost or publishes twice.

    .venv/bin/python -m benchmarks.job_faults [--jobs 200] [--workers 4] [--seconds 120]

Runs on SQLite, and on the PostgreSQL that TEST_DATABASE_URL names, if it names one. Every third job
publishes a revision, the others go on from a checkpoint after each of five steps; some are
cancelled. The table goes to `benchmarks/results/job_faults.md`; the exit status is 1 if anything
went wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import create_engine, text

from tests.faults import Damage, Storm, settings_for, storm
from tests.jobs_kit import opened

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


def run(database_url: str, weather: Storm) -> Damage:
    """Run one storm on a hub of its own."""
    with tempfile.TemporaryDirectory(prefix="job-faults-") as name:
        settings = settings_for(Path(name) / "hub", database_url)
        with opened(settings) as registry:
            return storm(registry, settings, weather)


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
    )
    return f"| {' | '.join(cells)} |"


def _machine() -> str:
    load, python = os.getloadavg()[0], platform.python_version()
    return f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f} after, Python {python}."


def main() -> None:
    """Run the storms, print what they did and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    weather = Storm(options.jobs, options.workers, options.seconds)
    found = {"SQLite": run("", weather)}
    if url := os.environ.get("TEST_DATABASE_URL"):
        with fresh_schema(url) as own:
            found["PostgreSQL"] = run(own, weather)
    head = f"{options.jobs} jobs, {options.workers} workers, killed for {options.seconds:g} s"
    columns = "database | jobs in the end | attempts | killed: jobs + workers | resumed | revisions"
    lines = [
        f"# {head}",
        "",
        _machine(),
        "",
        f"| {columns} | seconds | wrong |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *(row(title, damage) for title, damage in found.items()),
        "",
    ]
    print("\n".join(lines))
    wrong = [sentence for damage in found.values() for sentence in damage.wrong]
    print("\n".join(wrong))
    RESULTS.write_text("\n".join(lines))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
