"""Define what the job queue takes and answers: frozen values, none of them a database row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from registry.catalog.values import Readable, Role
from registry.digest import Digest
from registry.jobs.states import JobState
from registry.refs import AdapterName

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
JsonObject: TypeAlias = Mapping[str, JsonValue]
MAX_MESSAGE = 500
MAX_LOG_LINE = 2000
MAX_LOG_LINES = 1000
MAX_CHECKPOINT_BYTES = 64 << 20


def canonical(value: JsonObject) -> str:
    """Write JSON in the one form that equal values share."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


@dataclass(frozen=True, slots=True)
class NewJob:
    """Ask for a job.

    Attributes:
        kind: what is to be done.
        namespace: whose it is, or `*` if it touches more than one.
        parameters: how, frozen from now on.
        asked: what the caller wrote, before names were resolved to digests; tells repetitions;
            None if they are the same.
        key: idempotency key, unique in the namespace, or empty.
        asked_by: label of who asks.
        grants: what the job may do: what who asks may do.
        gpus: GPUs that it needs.
        max_attempts: how often it may be begun before a death of its worker fails it.
    """

    kind: str
    namespace: str
    parameters: JsonObject
    asked: JsonObject | None = None
    key: str = ""
    asked_by: str = ""
    grants: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    gpus: int = 0
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Lease:
    """Name one attempt of a job: only while it holds may its bearer change the job.

    Attributes:
        job: which job.
        attempt: which attempt; a later one makes it worthless.
    """

    job: str
    attempt: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Say how far a job is.

    Attributes:
        step: what is done, in whatever it counts.
        total: what there is to do, or None while that is unknown.
        message: what it does now.
        metrics: figures of its own.
    """

    step: int = 0
    total: int | None = None
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Say why a job failed.

    Attributes:
        code: stable, for programs.
        message: what happened.
        hint: what to do about it.
    """

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class JobResult:
    """Name the revision that a job published.

    Attributes:
        adapter: whose.
        revision: its digest.
    """

    adapter: AdapterName
    revision: Digest


@dataclass(frozen=True, slots=True)
class Job:
    """Show a job.

    Attributes:
        id: its name.
        kind: what is to be done.
        namespace: whose it is, or `*`.
        parameters: how.
        state: where it stands.
        cancel_requested: whether it is to stop.
        attempt: how often it was begun; the number of the attempt that holds it.
        max_attempts: how often its worker may die before it fails.
        progress: how far it is; of a map, children that ended.
        asked_by: label of who asked.
        grants: what it may do.
        gpus: GPUs that it needs.
        parent: the map that it belongs to, or None.
        children: how many jobs a map has; 0 for every other job.
        owner: who works on it, or None.
        lease_expires_at: until when, unless it tells that it lives.
        heartbeat_at: when it last did.
        checkpoint: digest of what a later attempt goes on from, or None.
        result: what it published, or None.
        outcome: what else came of it, or None.
        error: why it failed, or None.
        version: grows with every change.
        created_at: when it was asked for (UTC).
        started_at: when it was first begun, or None.
        ended_at: when it ended, or None.
    """

    id: str
    kind: str
    namespace: str
    parameters: JsonObject
    state: JobState
    cancel_requested: bool
    attempt: int
    max_attempts: int
    progress: JobProgress
    asked_by: str
    grants: Mapping[str, Role]
    gpus: int
    parent: str | None
    children: int
    owner: str | None
    lease_expires_at: str | None
    heartbeat_at: str | None
    checkpoint: Digest | None
    result: JobResult | None
    outcome: JsonObject | None
    error: JobFailure | None
    version: int
    created_at: str
    started_at: str | None
    ended_at: str | None

    @property
    def lease(self) -> Lease:
        """Return the lease on the attempt that holds it."""
        return Lease(self.id, self.attempt)


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Ask for jobs, newest first.

    Attributes:
        readable: namespaces that the caller may read; None means all.
        state: only in this state.
        kind: only of this kind.
        parent: only those of this map; None means those that belong to no map.
        cursor: where the page before ended.
        limit: page size, 1 to 1000.
    """

    readable: Readable = None
    state: JobState | None = None
    kind: str | None = None
    parent: str | None = None
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class LogLine:
    """Be one line of a job's log.

    Attributes:
        number: grows from line to line, over all jobs.
        attempt: which attempt wrote it.
        time: when (UTC).
        text: what.
    """

    number: int
    attempt: int
    time: str
    text: str
