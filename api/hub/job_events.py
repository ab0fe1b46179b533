"""Stream what happens to a job as server-sent events, until it ends.

`event: job` carries the whole job after every change, `event: log` a line of its log. The id of an
event is `VERSION.LINE`, so that a client that lost the stream goes on with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio import to_thread
from pydantic import BaseModel

from api.hub.job_answers import job_body, log_line_body
from registry.jobs.queue import Jobs
from registry.jobs.values import Job, LogLine

MEDIA_TYPE = "text/event-stream"
POLL_S = 0.3
_KEEP_ALIVE_POLLS = 50
_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Place:
    """Say what of a job a client has seen.

    Attributes:
        version: of the job.
        line: number of the last line of its log.
    """

    version: int = 0
    line: int = 0


def place_of(last_event_id: str) -> Place:
    """Return the place that the id of an event means; the beginning for anything else."""
    match = _ID.fullmatch(last_event_id)
    return Place(int(match[1]), int(match[2])) if match else Place()


async def events(
    jobs: Jobs, job: str, place: Place, closing: threading.Event
) -> AsyncIterator[bytes]:
    """Yield what happened to a job since a place, and what happens until it or the hub ends."""
    idle = 0
    while not closing.is_set():
        now, lines = await to_thread.run_sync(_look, jobs, job, place)
        for line in lines:
            place = Place(place.version, line.number)
            yield _event("log", log_line_body(line), place)
        idle = 0 if now.version > place.version else idle + 1
        if now.version > place.version:
            place = Place(now.version, place.line)
            yield _event("job", job_body(now), place)
        if now.state.ended:
            return
        if idle and idle % _KEEP_ALIVE_POLLS == 0:
            yield b": still here\n\n"
        await asyncio.sleep(POLL_S)


def _look(jobs: Jobs, job: str, place: Place) -> tuple[Job, tuple[LogLine, ...]]:
    """Return the job, and the new lines of its log, which grow its version."""
    now = jobs.get(job)
    return now, jobs.log(job, after=place.line) if now.version > place.version else ()


def _event(name: str, body: BaseModel, place: Place) -> bytes:
    ident = f"{place.version}.{place.line}"
    return f"event: {name}\nid: {ident}\ndata: {body.model_dump_json()}\n\n".encode()
