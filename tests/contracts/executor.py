"""State what an executor must do, by real jobs in real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api.executors.contract import Ended, Executor
from registry.jobs.states import JobState
from registry.jobs.values import Job, Lease
from registry.service import Registry
from tests.jobs_kit import asked, lives, long_noop, process_of, state, until

Maker = Callable[..., Executor]
LEASE_S = 60.0


def start(registry: Registry, executor: Executor, **fields: Any) -> Job:
    """Ask for a job, claim it and let an executor run it."""
    asked(registry, **{"parameters": long_noop(), **fields})
    job = registry.leases.claim("test", lease_s=LEASE_S, gpus=99)
    assert job is not None
    executor.start(job.lease, gpus=job.gpus)
    return job


def gone(executor: Executor, *leases: Lease) -> list[Ended]:
    """Wait until the executor says that attempts ended, and return what it says."""
    found: list[Ended] = []

    def all_there() -> bool:
        found.extend(executor.ended())
        return {ended.lease for ended in found} >= set(leases)

    until(all_there)
    return found


class ExecutorContract:
    """Run jobs; a subclass gives `registry` and `make(slots=…, gpus=…)`, both numbers."""

    @pytest.fixture
    def executor(self, make: Maker) -> Iterator[Executor]:
        executor = make(slots=2)
        yield executor
        executor.close()

    def test_a_job_runs_elsewhere_and_says_what_came_of_it(
        self, registry: Registry, executor: Executor
    ) -> None:
        job = start(registry, executor, parameters={"namespace": "team", "steps": 2})
        (ended,) = gone(executor, job.lease)
        assert ended.lease == job.lease
        done = registry.jobs.get(job.id)
        assert done.state is JobState.SUCCEEDED
        assert done.outcome is not None
        assert done.outcome["steps"] == 2
        assert executor.ended() == [], "what ended is told once"
        assert process_of(registry, job) != os.getpid()

    def test_there_is_room_for_so_many(self, registry: Registry, executor: Executor) -> None:
        assert executor.room() == 0
        first, second = start(registry, executor), start(registry, executor)
        assert executor.room() is None
        executor.stop(first.lease)
        gone(executor, first.lease)
        assert executor.room() == 0
        assert state(registry, second) is JobState.RUNNING

    def test_each_job_has_its_gpus_to_itself(self, registry: Registry, make: Maker) -> None:
        executor = make(slots=3, gpus=3)
        quick = {"namespace": "team", "steps": 2, "step_s": 0.3}
        jobs = [start(registry, executor, parameters=quick, gpus=n) for n in (2, 1, 0)]
        assert executor.room() is None
        gone(executor, *(job.lease for job in jobs))
        assert executor.room() == 3, "what a job held is free again"
        given: list[Any] = [(registry.jobs.get(job.id).outcome or {})["gpus"] for job in jobs]
        assert [len(gpus) for gpus in given] == [2, 1, 0]
        assert len({*given[0], *given[1]}) == 3
        executor.close()

    def test_a_stopped_job_frees_its_devices(self, registry: Registry, make: Maker) -> None:
        executor = make(slots=1, gpus=1)
        job = start(registry, executor, gpus=1)
        process = process_of(registry, job)
        executor.stop(job.lease)
        executor.stop(job.lease)
        gone(executor, job.lease)
        assert not lives(process)
        assert executor.room() == 1
        assert state(registry, job) is JobState.RUNNING, "its row is the supervisor's business"

    def test_stopping_what_does_not_run_does_nothing(self, executor: Executor) -> None:
        executor.stop(Lease("0" * 16, 1))
        assert executor.ended() == []

    def test_a_crash_takes_down_no_one_else(self, registry: Registry, executor: Executor) -> None:
        first, second = start(registry, executor), start(registry, executor)
        other = process_of(registry, second)
        os.kill(process_of(registry, first), signal.SIGKILL)
        (ended,) = gone(executor, first.lease)
        assert ended.lease == first.lease
        assert ended.detail
        assert lives(other)

    def test_closing_ends_everything(self, registry: Registry, executor: Executor) -> None:
        jobs = [start(registry, executor), start(registry, executor)]
        processes = [process_of(registry, job) for job in jobs]
        ended = executor.close()
        assert {one.lease for one in ended} == {job.lease for job in jobs}
        assert not any(lives(process) for process in processes)
        assert executor.close() == []
