"""Kill what runs jobs, at random, and look whether every job ends as it must.

`storm` is what the test of the suite runs for seconds and `benchmarks/job_faults.py` for minutes:
workers in processes of their own, jobs that publish and jobs that go on from checkpoints, some of
them cancelled, while jobs and workers are killed with SIGKILL.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.hub.auth import LOCAL
from api.jobs.asking import JobRequest, ask
from api.settings import HubSettings, environment_with
from registry.catalog.errors import AdapterNotFoundError
from registry.jobs.states import JobState
from registry.jobs.values import Job, JobQuery
from registry.refs import AdapterName, Reference
from registry.service import Registry
from tests.registry_kit import adapter_files, push

MAX_ATTEMPTS = 100
SOURCES = 5
_SHARE_OF_WORKERS = 0.2
_START_POLLS = 1200


@dataclass(frozen=True, slots=True)
class Storm:
    """Say how hard it blows.

    Attributes:
        jobs: how many jobs are asked for.
        workers: processes that work on them.
        slots: jobs at once of each worker.
        kills_s: for how long processes are killed, from when the first job runs.
        pause_s: longest pause between two kills.
        cancels: how many jobs are cancelled, at random.
        seed: of the dice.
    """

    jobs: int = 200
    workers: int = 4
    slots: int = 1
    kills_s: float = 120.0
    pause_s: float = 1.5
    cancels: int = 15
    seed: int = 1


@dataclass(slots=True)
class Damage:
    """Count what was done, and name what went wrong.

    Attributes:
        killed_jobs: processes of jobs that were killed.
        killed_workers: workers that were killed.
        states: jobs by state in the end.
        attempts: how often jobs were begun, in all.
        resumed: jobs that went on from a checkpoint.
        published: jobs that published.
        seconds: from the first job to the end of the last.
        wrong: what may not be, one sentence each.
    """

    killed_jobs: int = 0
    killed_workers: int = 0
    states: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    resumed: int = 0
    published: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def storm(registry: Registry, settings: HubSettings, weather: Storm) -> Damage:
    """Run jobs through a storm, and return what it did."""
    dice = random.Random(weather.seed)
    damage, over = Damage(), threading.Event()
    for number in range(SOURCES):
        push(registry, f"team/source{number}", adapter_files(number))
    began = time.monotonic()
    jobs = [_asked(registry, number) for number in range(weather.jobs)]
    cancelled = {job.id for job in dice.sample(jobs, weather.cancels)}
    with ExitStack() as stack:
        crews = [
            stack.enter_context(_crew(settings, over, weather.slots))
            for _ in range(weather.workers)
        ]
        arguments = (registry, crews, weather, dice, damage)
        killer = threading.Thread(target=_kill, args=arguments)
        killer.start()
        for job in sorted(cancelled):
            time.sleep(dice.uniform(0, weather.kills_s / max(1, weather.cancels)))
            registry.jobs.cancel(job)
        killer.join()
        _wait(registry, jobs, deadline=time.monotonic() + 60 + 4 * weather.jobs)
        over.set()
    damage.seconds = time.monotonic() - began
    _judge(registry, jobs, cancelled, damage)
    return damage


def _asked(registry: Registry, number: int) -> Job:
    """Ask for a job: every third one publishes, all others have a checkpoint after each step."""
    kind, parameters = _wanted(number)
    request = JobRequest(kind, parameters, key=f"key-{number}", max_attempts=MAX_ATTEMPTS)
    job, new = ask(registry, LOCAL, request)
    again, second = ask(registry, LOCAL, request)
    assert new
    assert not second
    assert again.id == job.id
    return job


def _wanted(number: int) -> tuple[str, dict[str, Any]]:
    if number % 3:
        return "noop", {"namespace": "team", "steps": 5, "step_s": 0.3}
    source = f"team/source{number % SOURCES}"
    how = {"method": "lossless"}
    return "compress", {"source": source, "target": f"team/made{number}", "how": how}


class _Crew:
    """Be one worker, begun again whenever it dies."""

    def __init__(self, settings: HubSettings, over: threading.Event, slots: int) -> None:
        self._settings = settings
        self._slots = slots
        self._over = over
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._keep)

    def _keep(self) -> None:
        program = [sys.executable, "-m", "api.cli.main", "worker", "--json"]
        command = [*program, "--slots", str(self._slots)]
        while not self._over.is_set():
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment_with(self._settings),
            )
            while self.process.poll() is None and not self._over.wait(0.1):
                pass
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


@contextmanager
def _crew(settings: HubSettings, over: threading.Event, slots: int) -> Iterator[_Crew]:
    crew = _Crew(settings, over, slots)
    crew.thread.start()
    try:
        yield crew
    finally:
        over.set()
        crew.thread.join()


def _kill(
    registry: Registry, crews: list[_Crew], weather: Storm, dice: random.Random, damage: Damage
) -> None:
    for _ in range(_START_POLLS):
        if _processes(registry):
            break
        time.sleep(0.05)
    until = time.monotonic() + weather.kills_s
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.1, weather.pause_s))
        if dice.random() < _SHARE_OF_WORKERS:
            crew = dice.choice(crews)
            if crew.process is not None and crew.process.poll() is None:
                crew.process.kill()
                damage.killed_workers += 1
            continue
        prey = _processes(registry)
        if prey:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(prey), signal.SIGKILL)
                damage.killed_jobs += 1


def _processes(registry: Registry) -> list[int]:
    """Return the processes that work on jobs now, which each job's log names."""
    found = []
    for job in registry.jobs.list(JobQuery(state=JobState.RUNNING)).items:
        lines = [line for line in registry.jobs.log(job.id) if line.attempt == job.attempt]
        match = re.search(r"in process (\d+)", lines[0].text) if lines else None
        if match:
            found.append(int(match[1]))
    return found


def _wait(registry: Registry, jobs: list[Job], *, deadline: float) -> None:
    while time.monotonic() < deadline:
        waiting = [
            job
            for state in (JobState.QUEUED, JobState.RUNNING)
            for job in registry.jobs.list(JobQuery(state=state, limit=1)).items
        ]
        if not waiting:
            return
        time.sleep(0.3)


def _judge(registry: Registry, jobs: list[Job], cancelled: set[str], damage: Damage) -> None:
    if len(registry.jobs.list(JobQuery(limit=1000)).items) != len(jobs):
        damage.wrong.append("there are more or fewer jobs than were asked for")
    for number, asked in enumerate(jobs):
        job = registry.jobs.get(asked.id)
        damage.states[job.state] += 1
        damage.attempts += job.attempt
        allowed = {JobState.SUCCEEDED}
        if job.id in cancelled:
            allowed.add(JobState.CANCELLED)
        if job.state not in allowed:
            damage.wrong.append(f"job {number} ({job.kind}) is {job.state}: {job.error}")
        if job.state is JobState.SUCCEEDED and job.kind == "noop":
            outcome = job.outcome or {}
            damage.resumed += bool(outcome["begun_at"])
        if job.kind == "compress":
            _judge_publication(registry, job, number, damage)


def _judge_publication(registry: Registry, job: Job, number: int, damage: Damage) -> None:
    """Look whether a job published once if it succeeded, and not at all otherwise."""
    try:
        found = registry.adapters.log(Reference(AdapterName("team", f"made{number}"))).items
    except AdapterNotFoundError:
        found = ()
    digests = [revision.digest for revision in found]
    wanted = [job.result.revision] if job.result else []
    if digests != wanted or bool(wanted) != (job.state is JobState.SUCCEEDED):
        damage.wrong.append(f"job {number} is {job.state} and published {len(digests)} revisions")
    damage.published += len(digests)


def settings_for(folder: Path, database_url: str, *, ray_address: str = "") -> HubSettings:
    """Return the settings of a hub whose workers are missed soon.

    Args:
        folder: its data.
        database_url: an empty database, or nothing for SQLite in the folder.
        ray_address: of the cluster that its workers use, or nothing for this machine.
    """
    cluster = {"job_executor": "ray", "ray_address": ray_address} if ray_address else {}
    timing = {"job_lease_s": 5, "job_grace_s": 1, "job_gpus": ""}
    given = {"data_dir": folder, "database_url": database_url, **timing, **cluster}
    return HubSettings.model_validate(given)
