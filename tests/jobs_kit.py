"""Ask for jobs and run them in tests, on a registry of the test's own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.hub.auth import LOCAL
from api.jobs.asking import JobRequest, ask
from api.registry_settings import registry_settings
from api.settings import HubSettings
from registry.jobs.states import JobState
from registry.jobs.values import Job
from registry.service import Registry, open_registry
from registry.tokens import Principal

WAIT_S = 90.0


@contextmanager
def opened(settings: HubSettings) -> Iterator[Registry]:
    """Open a registry as a hub does."""
    registry = open_registry(registry_settings(settings))
    try:
        yield registry
    finally:
        registry.close()


def hub_at(folder: Path, **settings: object) -> HubSettings:
    """Return the settings of a hub in a folder."""
    return HubSettings.model_validate({"data_dir": folder / "hub", "job_grace_s": 2, **settings})


def asked(
    registry: Registry,
    kind: str = "noop",
    parameters: Mapping[str, Any] | None = None,
    *,
    principal: Principal = LOCAL,
    **fields: Any,
) -> Job:
    """Queue a job."""
    given = {"namespace": "team"} if parameters is None else dict(parameters)
    request = JobRequest(kind, given, **fields)
    return ask(registry, principal, request)[0]


def long_noop(steps: int = 600, step_s: float = 0.1) -> dict[str, Any]:
    """Return the parameters of a job that lasts."""
    return {"namespace": "team", "steps": steps, "step_s": step_s}


def until(holds: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
    """Wait until a call returns something true."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.03)


def state(registry: Registry, job: Job) -> JobState:
    """Return the present state of a job."""
    return registry.jobs.get(job.id).state


def process_of(registry: Registry, job: Job) -> int:
    """Wait until an attempt of a job tells its process, and return the last that did."""
    found: list[str] = []

    def told() -> bool:
        lines = (re.search(r"in process (\d+)", line.text) for line in registry.jobs.log(job.id))
        found[:] = [match[1] for match in lines if match]
        return len(found) >= registry.jobs.get(job.id).attempt > 0

    until(told)
    return int(found[-1])


def lives(process: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
