"""Compress a library as one map job on this machine and on Ray, and compare every digest.

    .venv/bin/python -m benchmarks.job_library [--adapters 500] [--slots 2]

The same adapters of one base model are pushed to a hub of their own for each executor; one job
compresses them all, each in a process of its own. What must come out is equal: every file of every
revision. The table goes to `benchmarks/results/job_library.md`; the exit status is 1 if it is not.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from api.executors.contract import Executor
from api.hub.auth import LOCAL
from api.jobs.asking import JobRequest, ask
from api.jobs.supervisor import Supervisor
from api.jobs.worker import executor_of
from registry.jobs.states import JobState
from registry.service import Registry
from tests.jobs_kit import hub_at, opened
from tests.registry_kit import adapter_files, at, push

RESULTS = Path(__file__).parent / "results" / "job_library.md"
#: Tiny adapters have no room for half a bit.
HOW: dict[str, JsonValue] = {"method": "rd", "max_error": 0.25}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what one executor made.

    Attributes:
        digests: of every file, by adapter.
        state: how the map ended.
        seconds: it took.
    """

    digests: dict[str, tuple[str, ...]]
    state: JobState
    seconds: float


def run(adapters: int, **how: object) -> Outcome:
    """Push a library, compress it as one job, and read what came of it."""
    with tempfile.TemporaryDirectory(prefix="job-library-") as name:
        settings = hub_at(Path(name), **how)
        with opened(settings) as registry:
            for number in range(adapters):
                push(registry, f"team/a{number}", adapter_files(number))
            began = time.monotonic()
            state = compress_all(registry, executor_of(settings))
            seconds = time.monotonic() - began
            numbers = range(adapters if state is JobState.SUCCEEDED else 0)
            digests = {f"a{n}": files_of(registry, f"a{n}.c") for n in numbers}
    return Outcome(digests, state, seconds)


def run_on_ray(adapters: int, slots: int) -> Outcome:
    """Do so on a Ray cluster of two nodes on this machine."""
    import ray  # noqa: PLC0415 - an extra
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": max(1, slots // 2)})
    cluster.add_node(num_cpus=max(1, slots - slots // 2))
    try:
        return run(adapters, job_executor="ray", job_slots=slots, ray_address=cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


def compress_all(registry: Registry, executor: Executor) -> JobState:
    """Run the map to its end."""
    request = JobRequest("compress", {"base_model": "tiny", "suffix": ".c", "how": HOW})
    job = ask(registry, LOCAL, request)[0]
    supervisor = Supervisor(registry.leases, executor, 60)
    while not registry.jobs.get(job.id).state.ended:
        supervisor.turn()
        time.sleep(0.05)
    executor.close()
    return registry.jobs.get(job.id).state


def files_of(registry: Registry, name: str) -> tuple[str, ...]:
    """Give the digests of a revision's files."""
    return tuple(str(file.digest) for file in at(registry, f"team/{name}").manifest.files)


def main() -> None:
    """Run both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=500)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    found = dict[str, dict[str, tuple[str, ...]]]()
    rows = []
    for executor in ("local", "ray, two nodes"):
        if executor == "local":
            outcome = run(options.adapters, job_executor="local", job_slots=options.slots)
        else:
            outcome = run_on_ray(options.adapters, options.slots)
        found[executor], made = outcome.digests, len(outcome.digests)
        cells = (executor, outcome.state.value, str(made), f"{outcome.seconds:.0f}")
        rows.append(f"| {' | '.join(cells)} | {made / outcome.seconds:.2f} |")
        print(rows[-1], flush=True)
    one, other = found.values()
    equal = one == other and len(one) == options.adapters
    cores = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        f"# One job that compresses {options.adapters} adapters",
        "",
        f"{platform.platform()}, {cores}; {options.slots} at a time, each in a process of its own.",
        "",
        "| executor | ended | compressed | seconds | adapters/s |",
        "|---|---|---:|---:|---:|",
        *rows,
        "",
        "Every file of every revision is the same." if equal else "**The files differ.**",
        "",
    ]
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))
    sys.exit(not equal)


if __name__ == "__main__":
    main()
