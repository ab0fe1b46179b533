"""Test how a supervisor keeps an executor busy, and what becomes of what dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.executors.local import LocalExecutor
from api.jobs.supervisor import Supervisor, remove_leftovers
from api.jobs.worker import local_executor
from api.settings import environment_with
from registry.jobs.states import JobState
from registry.jobs.values import Job
from registry.service import Registry
from tests.jobs_kit import asked, hub_at, lives, long_noop, opened, process_of, state, until

Maker = Callable[..., Supervisor]
SLEEPS = "import time; time.sleep(600)"
DIES = "import sys; print('why it died'); sys.exit(7)"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with opened(hub_at(tmp_path)) as registry:
        yield registry


def scripted(folder: Path, script: str, *, slots: int = 1) -> LocalExecutor:
    """Return an executor whose jobs are a script that knows no queue."""
    command = (sys.executable, "-c", script)
    return LocalExecutor(
        command, lambda _own, _gpus: dict(os.environ), folder=folder, slots=slots, grace_s=2
    )


@pytest.fixture
def supervise(registry: Registry, tmp_path: Path) -> Iterator[Maker]:
    made: list[LocalExecutor] = []

    def maker(script: str, *, slots: int = 1) -> Supervisor:
        made.append(scripted(tmp_path / "jobs", script, slots=slots))
        return Supervisor(registry.leases, made[-1], 60, "me")

    yield maker
    for executor in made:
        executor.close()


def turned(supervisor: Supervisor, registry: Registry, *jobs: Job) -> None:
    """Let a supervisor turn until jobs ended."""

    def all_ended() -> bool:
        supervisor.turn()
        return all(registry.jobs.get(job.id).state.ended for job in jobs)

    until(all_ended)


def test_it_begins_as_many_as_there_is_room_for(supervise: Maker, registry: Registry) -> None:
    supervisor = supervise(SLEEPS, slots=2)
    jobs = [asked(registry) for _ in range(3)]
    assert supervisor.turn() is True
    assert supervisor.turn() is False
    assert [state(registry, job) for job in jobs] == [
        JobState.RUNNING,
        JobState.RUNNING,
        JobState.QUEUED,
    ]
    assert registry.jobs.get(jobs[0].id).owner == "me"


def test_what_dies_is_begun_again_so_often(supervise: Maker, registry: Registry) -> None:
    supervisor = supervise(DIES)
    job = asked(registry, max_attempts=2)
    turned(supervisor, registry, job)
    failed = registry.jobs.get(job.id)
    assert (failed.state, failed.attempt) == (JobState.FAILED, 2)
    assert failed.error is not None
    assert failed.error.code == "job-died"
    texts = [line.text for line in registry.jobs.log(job.id)]
    assert texts == ["attempt 1 ended with status 7", "attempt 2 ended with status 7"]
    assert "why it died" not in str(texts), "what it wrote is for those who run the worker"


def test_a_cancelled_job_is_stopped_and_its_slot_is_free(
    supervise: Maker, registry: Registry
) -> None:
    supervisor = supervise(SLEEPS)
    first, second = asked(registry), asked(registry)
    supervisor.turn()
    registry.jobs.cancel(first.id)
    turned(supervisor, registry, first)
    assert state(registry, first) is JobState.CANCELLED
    until(lambda: supervisor.turn() or state(registry, second) is JobState.RUNNING)


def test_a_job_that_was_taken_away_is_stopped(supervise: Maker, registry: Registry) -> None:
    supervisor = supervise(SLEEPS)
    job = asked(registry)
    supervisor.turn()
    lease = registry.jobs.get(job.id).lease
    registry.leases.succeed(lease)
    until(lambda: supervisor.turn() or supervisor.executor.room() is not None)
    assert state(registry, job) is JobState.SUCCEEDED


def test_what_cannot_be_begun_fails_in_the_end(registry: Registry, tmp_path: Path) -> None:
    executor = LocalExecutor(
        ("/nonexistent",), lambda _own, _gpus: {}, folder=tmp_path / "jobs", slots=1
    )
    job = asked(registry, max_attempts=2)
    turned(Supervisor(registry.leases, executor, 60), registry, job)
    assert state(registry, job) is JobState.FAILED
    assert "could not be begun" in registry.jobs.log(job.id)[0].text


def test_a_stopped_supervisor_gives_back_what_runs(supervise: Maker, registry: Registry) -> None:
    supervisor = supervise(SLEEPS)
    job = asked(registry, max_attempts=1)
    over = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(over,))
    thread.start()
    until(lambda: state(registry, job) is JobState.RUNNING)
    over.set()
    thread.join(20)
    assert not thread.is_alive()
    assert state(registry, job) is JobState.QUEUED, "its attempt is forgiven"


def test_it_takes_back_what_others_left(registry: Registry, tmp_path: Path) -> None:
    job = asked(registry, parameters={"namespace": "team", "steps": 2})
    assert registry.leases.claim("dead", lease_s=0.1) is not None
    settings = hub_at(tmp_path)
    executor = local_executor(settings, slots=1)
    try:
        turned(Supervisor(registry.leases, executor, 60), registry, job)
    finally:
        executor.close()
    done = registry.jobs.get(job.id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)


def test_a_failing_queue_is_asked_again(
    supervise: Maker, registry: Registry, tmp_path: Path
) -> None:
    supervisor = supervise(SLEEPS)
    table = registry.settings.data_dir / "registry.sqlite"
    hidden = table.with_suffix(".hidden")
    over = threading.Event()
    registry.database.close()
    table.rename(hidden)
    thread = threading.Thread(target=supervisor.run, args=(over,))
    thread.start()
    try:
        until(table.exists)  # SQLite made an empty one, in which it finds no table
    finally:
        hidden.replace(table)
        registry.database.close()
    job = asked(registry)
    until(lambda: state(registry, job) is JobState.RUNNING)
    over.set()
    thread.join(20)


def test_leftovers_of_a_killed_supervisor_are_removed(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    asked(registry)
    held = registry.leases.claim("other", lease_s=60)
    assert held is not None
    names = [f"{held.id}-1", f"{held.id}-0", "0123456789abcdef-4", "notes"]
    for name in names:
        (folder / name / "x").mkdir(parents=True)
    remove_leftovers(folder, registry.leases)
    assert sorted(path.name for path in folder.iterdir()) == sorted([names[0], "notes"])
    remove_leftovers(tmp_path / "nothing", registry.leases)


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a worker in a process of its own that takes jobs."""
    own = hub_at(folder, job_lease_s=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", "worker", "--json", "--slots", "1"],
        stdout=subprocess.PIPE,
        env=environment_with(own),
    )
    try:
        assert process.stdout is not None
        assert b"worker" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_worker_is_replaced_and_the_job_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    job = asked(registry, parameters=long_noop(steps=20, step_s=0.2))
    with worker(tmp_path) as first:
        process = process_of(registry, job)
        until(lambda: registry.jobs.get(job.id).checkpoint)
        first.kill()
        first.wait()
        until(lambda: not lives(process), timeout_s=5)
    with worker(tmp_path) as second:
        until(lambda: registry.jobs.get(job.id).state.ended)
        done = registry.jobs.get(job.id)
        assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
        assert done.outcome is not None
        assert int(str(done.outcome["begun_at"])) >= 1
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
