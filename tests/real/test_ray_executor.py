"""Hold the executor's contract on a real Ray cluster of this machine, and kill what belongs to it.

The cluster counts GPUs that are not there: it only hands out their numbers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from api.errors import StartError
from api.executors.contract import Executor
from api.jobs.run import run_attempt
from api.jobs.supervisor import Supervisor
from api.jobs.worker import executor_of
from registry.jobs.states import JobState
from registry.service import Registry
from tests.contracts.executor import ExecutorContract, Maker
from tests.jobs_kit import asked, hub_at, lives, long_noop, opened, process_of, until
from tests.registry_kit import adapter_files, at, push

ray = pytest.importorskip("ray", reason="no ray: pip install 'ternery[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    # Ray leaves sockets and processes to its own atexit.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]
GPUS = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a cluster of one node, and stop it."""
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=GPUS,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with opened(hub_at(tmp_path)) as registry:
        yield registry


@pytest.fixture
def make(tmp_path: Path, cluster: None) -> Maker:
    def maker(*, slots: int, gpus: int = 0) -> Executor:
        names = ",".join(str(number) for number in range(gpus))
        settings = hub_at(tmp_path, job_executor="ray", job_slots=slots, job_gpus=names)
        return executor_of(settings)

    return maker


class TestRay(ExecutorContract):
    """Run jobs as tasks of Ray."""


def test_a_killed_ray_worker_takes_the_job_along_and_it_is_begun_again(
    registry: Registry, make: Maker
) -> None:
    supervisor = Supervisor(registry.leases, make(slots=1), 60)
    job = asked(registry, parameters=long_noop(steps=20, step_s=0.2))
    supervisor.turn()
    process = process_of(registry, job)
    until(lambda: registry.jobs.get(job.id).checkpoint)
    os.kill(psutil.Process(process).ppid(), signal.SIGKILL)
    until(lambda: not lives(process), timeout_s=5)

    def over() -> bool:
        supervisor.turn()
        return registry.jobs.get(job.id).state.ended

    until(over)
    done = registry.jobs.get(job.id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    assert done.outcome is not None
    assert int(str(done.outcome["begun_at"])) >= 1
    assert any("lost on the cluster" in line.text for line in registry.jobs.log(job.id))


def test_a_map_makes_the_same_bytes_there_as_here(
    registry: Registry, make: Maker, tmp_path: Path
) -> None:
    for number in range(3):
        push(registry, f"team/a{number}", adapter_files(number))
    there = asked(registry, "compress", {"base_model": "tiny", "suffix": "-there"})
    supervisor = Supervisor(registry.leases, make(slots=3), 60)

    def over() -> bool:
        supervisor.turn()
        return registry.jobs.get(there.id).state.ended

    until(over)
    assert registry.jobs.get(there.id).state is JobState.SUCCEEDED
    asked(registry, "compress", {"base_model": "tiny", "suffix": "-here"})
    while (job := registry.leases.claim("here", lease_s=60)) is not None:
        run_attempt(hub_at(tmp_path), registry, job.lease)
    for number in range(3):
        digests = [
            [file.digest for file in at(registry, f"team/a{number}-{where}").manifest.files]
            for where in ("there", "here")
        ]
        assert digests[0] == digests[1]


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    settings = hub_at(tmp_path, job_executor="ray", ray_address="127.0.0.1:1")
    with pytest.raises(StartError, match=r"127\.0\.0\.1:1"):
        executor_of(settings)
