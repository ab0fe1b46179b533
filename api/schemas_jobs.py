"""Define what the API accepts and answers about jobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from api.schemas import Body
from api.schemas_requests import Line, RequestBody
from registry.jobs.states import JobState
from registry.manifest_json import DigestText

PATTERN_JOB = r"^[0-9a-f]{16}$"
MAX_ATTEMPTS = 100
MAX_GPUS = 1024


class JobIn(RequestBody):
    """Ask for a job; `adapters jobs kinds` tells the kinds and what each takes.

    With an `idempotency_key`, which is unique in the job's namespace, the same request again finds
    the same job.
    """

    kind: Annotated[Line, Field(min_length=1)]
    parameters: dict[str, JsonValue] = Field(default_factory=dict, max_length=100)
    idempotency_key: Annotated[Line, StringConstraints(max_length=200)] = ""
    gpus: Annotated[int, Field(ge=0, le=MAX_GPUS)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = 3


class JobProgressBody(Body):
    """Show how far a job is; `total` is null while it is unknown."""

    step: int
    total: int | None
    message: str
    metrics: dict[str, float]


class JobResultBody(Body):
    """Name the revision that a job published."""

    adapter: str
    digest: DigestText


class JobErrorBody(Body):
    """Show why a job failed."""

    code: str
    message: str
    hint: str


class JobBody(Body):
    """Show a job."""

    id: str
    kind: str
    namespace: str = Field(description="or * for a job that touches more than one")
    state: JobState
    cancel_requested: bool
    parameters: dict[str, JsonValue]
    progress: JobProgressBody
    attempt: int = Field(description="how often it was begun")
    max_attempts: int
    gpus: int
    asked_by: str
    worker: str | None = Field(description="who works on it")
    lease_expires_at: str | None
    heartbeat_at: str | None
    checkpoint: DigestText | None
    result: JobResultBody | None
    outcome: dict[str, JsonValue] | None
    error: JobErrorBody | None
    parent: str | None = Field(description="the map that it belongs to")
    children: int = Field(description="how many jobs a map has; else 0")
    version: int = Field(description="grows with every change")
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobPage(Body):
    """Show one page of jobs, newest first."""

    items: list[JobBody]
    next_cursor: str | None


class JobLogLineBody(Body):
    """Show one line of a job's log."""

    number: int
    attempt: int
    time: str
    text: str


class JobLogBody(Body):
    """Show the end of a job's log, in order."""

    lines: list[JobLogLineBody]


class JobKindBody(Body):
    """Show a kind of job; `parameters` is the JSON schema of what it takes."""

    kind: str
    summary: str
    parameters: dict[str, JsonValue]


class JobKindsBody(Body):
    """Show every kind of job."""

    items: list[JobKindBody]
