"""Measure the queue with jobs that do nothing, and what a hub answers while jobs run.

    .venv/bin/python -m benchmarks.job_queue [--jobs 400] [--calls 300]

Three questions: how many jobs a second can be claimed and ended by processes that do no more; how
many a worker runs, each in a process of its own; how long a hub takes to list adapters while its
worker is busy. The first is asked on PostgreSQL, too, if TEST_DATABASE_URL names one. The tables go
to `benchmarks/results/job_queue.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
from pydantic import JsonValue

from api.hub.auth import LOCAL
from api.jobs.asking import JobRequest, ask
from api.jobs.supervisor import Supervisor
from api.jobs.worker import local_executor
from api.registry_settings import registry_settings
from api.settings import HubSettings
from benchmarks.job_faults import fresh_schema
from registry.jobs.states import JobState
from registry.jobs.values import JobQuery
from registry.service import join_registry
from tests.jobs_kit import opened
from tests.live_hub import start_hub
from tests.registry_kit import adapter_files, push

RESULTS = Path(__file__).parent / "results" / "job_queue.md"
NOOP = {"namespace": "team"}


def settings_of(folder: Path, database_url: str) -> HubSettings:
    """Return the settings of a hub without workers."""
    return HubSettings(data_dir=folder, database_url=database_url, job_slots=0)


def _drain(settings: HubSettings, ready: Callable[[], object], waits: list[float]) -> None:
    """Claim and end jobs until none is left, and keep how long each took."""
    registry = join_registry(registry_settings(settings))
    own = []
    ready()
    while True:
        began = time.perf_counter()
        job = registry.leases.claim("drain", lease_s=60)
        if job is None:
            break
        registry.leases.succeed(job.lease)
        own.append(time.perf_counter() - began)
    waits.extend(own)
    registry.close()


def claims(database_url: str, jobs: int, processes: int) -> tuple[float, float, float]:
    """Return jobs a second, and the median and 99th percentile of one in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="job-queue-") as name:
        settings = settings_of(Path(name), database_url)
        with opened(settings) as registry:
            for _ in range(jobs):
                ask(registry, LOCAL, JobRequest("noop", NOOP))
        context = multiprocessing.get_context("spawn")
        with context.Manager() as shared:
            waits = shared.list()
            barrier = shared.Barrier(processes + 1)
            workers = [
                context.Process(target=_drain, args=(settings, barrier.wait, waits))
                for _ in range(processes)
            ]
            for worker in workers:
                worker.start()
            barrier.wait()
            began = time.perf_counter()
            for worker in workers:
                worker.join()
            seconds = time.perf_counter() - began
            taken = sorted(waits)
    assert len(taken) == jobs
    return jobs / seconds, 1000 * statistics.median(taken), 1000 * taken[int(0.99 * len(taken))]


def processes_a_second(jobs: int, slots: int) -> float:
    """Return how many jobs a second one worker runs, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="job-queue-") as name:
        settings = settings_of(Path(name), "")
        with opened(settings) as registry:
            for _ in range(jobs):
                ask(registry, LOCAL, JobRequest("noop", NOOP))
            supervisor = Supervisor(registry.leases, local_executor(settings, slots=slots), 60)
            began = time.perf_counter()
            while (
                len(registry.jobs.list(JobQuery(state=JobState.SUCCEEDED, limit=1000)).items) < jobs
            ):
                supervisor.turn()
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            supervisor.executor.close()
    return jobs / seconds


def latencies(calls: int, *, busy: bool) -> list[float]:
    """Return how long a hub took to list adapters, in milliseconds, sorted."""
    with tempfile.TemporaryDirectory(prefix="job-queue-") as name:
        folder = Path(name)
        with opened(settings_of(folder, "")) as registry:
            for number in range(20):
                push(registry, f"team/a{number}", adapter_files(number))
            for _ in range(500 if busy else 0):
                how: dict[str, JsonValue] = {"source": "team/a0", "target": "team/out"}
                ask(registry, LOCAL, JobRequest("compress", how))
        with start_hub(folder, job_slots=2, requests_per_minute=0) as hub, hub.client() as http:
            time.sleep(5)
            found = sorted(_timed(http) for _ in range(calls))
            hub.stop()
    return found


def _timed(http: httpx2.Client) -> float:
    time.sleep(0.01)
    began = time.perf_counter()
    http.get("/adapters").raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _latency_row(title: str, found: list[float]) -> str:
    cells = (statistics.median(found), found[int(0.95 * len(found))], found[int(0.99 * len(found))])
    return f"| {title} | {' | '.join(f'{cell:.1f}' for cell in cells)} |"


def _claim_rows(jobs: int) -> list[str]:
    rows = []
    for processes in (1, 4):
        found = claims("", jobs, processes)
        rows.append(_claim_row("SQLite", processes, found))
        if url := os.environ.get("TEST_DATABASE_URL"):
            with fresh_schema(url) as own:
                rows.append(_claim_row("PostgreSQL", processes, claims(own, jobs, processes)))
    return rows


def _claim_row(database: str, processes: int, found: tuple[float, float, float]) -> str:
    rate, median, slow = found
    return f"| {database} | {processes} | {rate:.0f} | {median:.1f} | {slow:.1f} |"


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    load, python = os.getloadavg()[0], platform.python_version()
    idle = latencies(options.calls, busy=False)
    lines = [
        "# The queue of jobs",
        "",
        f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f} before, Python {python}.",
        "",
        f"## Claim and end {options.jobs} jobs",
        "",
        "| database | processes | jobs/s | median ms | p99 ms |",
        "|---|---:|---:|---:|---:|",
        *_claim_rows(options.jobs),
        "",
        "## Run jobs that do nothing, each in a process of its own",
        "",
        "| slots | jobs/s |",
        "|---:|---:|",
        *(f"| {slots} | {processes_a_second(20, slots):.2f} |" for slots in (1, 2)),
        "",
        "## List adapters over HTTP while two jobs compress beside the hub",
        "",
        "| hub | median ms | p95 ms | p99 ms |",
        "|---|---:|---:|---:|",
        _latency_row("idle", idle),
        _latency_row("two jobs run", latencies(options.calls, busy=True)),
        "",
    ]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
