"""Keep jobs: insert, find, list, cancel and retry them.

`move_job` is the one place where a state changes, and where a map learns what became of its jobs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from registry.catalog.cursors import check_limit, decode_cursor, encode_cursor
from registry.catalog.objects import insert_into
from registry.catalog.tables import jobs
from registry.catalog.values import Page, Role
from registry.digest import Digest
from registry.errors import ValidationError
from registry.jobs.errors import JobStateError
from registry.jobs.states import JobState, check_move
from registry.jobs.values import (
    Job,
    JobFailure,
    JobProgress,
    JobQuery,
    JobResult,
    JsonObject,
    NewJob,
    canonical,
)
from registry.refs import AdapterName


def insert_job(
    connection: Connection,
    new: NewJob,
    *,
    job: str,
    now: str,
    parent: str | None = None,
    children: int = 0,
) -> bool:
    """Keep a new job, queued; False if one of its key is there."""
    insert = insert_into(connection, jobs).on_conflict_do_nothing()
    made = connection.scalar(
        insert.returning(jobs.c.number).values(
            id=job,
            kind=new.kind,
            namespace=new.namespace,
            parameters=canonical(new.parameters),
            asked=asked_digest(new),
            idempotency_key=new.key or None,
            asked_by=new.asked_by[:256],
            grants=json.dumps({name: role.value for name, role in new.grants.items()}),
            gpus=new.gpus,
            parent=parent,
            children=children,
            state=JobState.QUEUED.value,
            cancel_requested=False,
            attempt=0,
            forgiven=0,
            max_attempts=new.max_attempts,
            step=0,
            total=children or None,
            message="",
            metrics="{}",
            version=1,
            created_at=now,
        )
    )
    return made is not None


def asked_digest(new: NewJob) -> str:
    """Return what tells a repeated request from another one under the same key."""
    asked = new.parameters if new.asked is None else new.asked
    value: JsonObject = {"kind": new.kind, "parameters": asked, "gpus": new.gpus}
    return Digest.of(canonical(value).encode()).hex


def find_by_key(connection: Connection, namespace: str, key: str) -> Row[Any] | None:
    """Return the row of the job that was asked for with an idempotency key."""
    return connection.execute(
        select(jobs).where(jobs.c.namespace == namespace, jobs.c.idempotency_key == key)
    ).one_or_none()


def find_job(connection: Connection, job: str, *, lock: bool = False) -> Row[Any] | None:
    """Return the row of a job, locked until the transaction ends if that is asked."""
    query = select(jobs).where(jobs.c.id == job)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def list_jobs(connection: Connection, query: JobQuery) -> Page[Job]:
    """Return one page of jobs, newest first.

    Raises:
        ValidationError: the cursor or the limit is wrong.
    """
    wanted = select(jobs).order_by(jobs.c.number.desc()).limit(check_limit(query.limit) + 1)
    wanted = _filtered(wanted, query)
    if query.cursor:
        wanted = wanted.where(jobs.c.number < _number(decode_cursor(query.cursor, 1)[0]))
    rows = connection.execute(wanted).all()
    shown = rows[: query.limit]
    more = encode_cursor(str(shown[-1].number)) if len(rows) > query.limit else None
    return Page(tuple(job_of(row) for row in shown), more)


def _filtered(wanted: Select[Any], query: JobQuery) -> Select[Any]:
    if query.readable is not None:
        wanted = wanted.where(jobs.c.namespace.in_(sorted(query.readable)))
    if query.state is not None:
        wanted = wanted.where(jobs.c.state == query.state.value)
    if query.kind is not None:
        wanted = wanted.where(jobs.c.kind == query.kind)
    if query.parent is None:
        return wanted.where(jobs.c.parent.is_(None))
    return wanted.where(jobs.c.parent == query.parent)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationError("not a cursor of this listing", field="cursor", actual=text[:80])
    return int(text)


def move_job(connection: Connection, row: Row[Any], state: JobState, **values: object) -> None:
    """Change the state of a locked job, and let the map that it belongs to know.

    Raises:
        JobStateError: this state may not follow the present one.
    """
    check_move(row.id, JobState(row.state), state)
    changed: dict[str, object] = {"state": state.value, "version": jobs.c.version + 1}
    if state is not JobState.RUNNING:
        changed |= {"lease_owner": None, "lease_expires_at": None, "heartbeat_at": None}
    connection.execute(update(jobs).where(jobs.c.number == row.number).values(changed | values))
    if row.parent is not None and state is not JobState.QUEUED:
        _tell_map(connection, row.parent, str(values.get("ended_at") or ""))


def start_map(connection: Connection, parent: str, now: str) -> None:
    """Say that the first of a map's jobs was begun."""
    row = find_job(connection, parent, lock=True)
    if row is not None and row.state == JobState.QUEUED:
        move_job(connection, row, JobState.RUNNING, started_at=row.started_at or now)


def _tell_map(connection: Connection, parent: str, now: str) -> None:
    row = find_job(connection, parent, lock=True)
    if row is None or JobState(row.state).ended:
        return
    counted = select(jobs.c.state, func.count()).where(jobs.c.parent == parent)
    by_state = {state: int(n) for state, n in connection.execute(counted.group_by(jobs.c.state))}
    ended = sum(n for state, n in by_state.items() if JobState(state).ended)
    told = ", ".join(f"{n} {state}" for state, n in sorted(by_state.items()))
    if ended < row.children:
        changed = {"step": ended, "message": told, "version": jobs.c.version + 1}
        connection.execute(update(jobs).where(jobs.c.number == row.number).values(changed))
        return
    final = _outcome(by_state)
    error = None
    if final is JobState.FAILED:
        failure = JobFailure(
            "job-failed",
            f"of {row.children} jobs {told}",
            f"see `adapters jobs list --of {parent}`",
        )
        error = error_text(failure)
    move_job(connection, row, final, step=ended, message=told, error=error, ended_at=now)


def _outcome(by_state: dict[str, int]) -> JobState:
    for state in (JobState.CANCELLED, JobState.FAILED):
        if by_state.get(state.value):
            return state
    return JobState.SUCCEEDED


def cancel_job(connection: Connection, row: Row[Any], now: str) -> None:
    """Cancel a locked job: at once if it waits, by a request if it runs; nothing if it ended."""
    state = JobState(row.state)
    if state.ended:
        return
    requested = {"cancel_requested": True, "version": jobs.c.version + 1}
    connection.execute(update(jobs).where(jobs.c.number == row.number).values(requested))
    if row.children:
        for child in _locked_children(connection, row.id):
            cancel_job(connection, child, now)
    elif state is JobState.QUEUED:
        move_job(connection, row, JobState.CANCELLED, ended_at=now)


def retry_job(connection: Connection, row: Row[Any]) -> None:
    """Queue a locked job again, with all its attempts; of a map, those jobs that did not succeed.

    Raises:
        JobStateError: it did neither fail nor was it cancelled.
    """
    fresh: dict[str, object] = {
        "cancel_requested": False,
        "error": None,
        "ended_at": None,
        "forgiven": row.attempt,
    }
    if row.state == JobState.RUNNING:
        raise JobStateError(row.id, actual=row.state, wanted=str(JobState.QUEUED))
    move_job(connection, row, JobState.QUEUED, **fresh)
    for child in _locked_children(connection, row.id) if row.children else ():
        if child.state in {JobState.FAILED, JobState.CANCELLED}:
            retry_job(connection, child)
    parent = find_job(connection, row.parent, lock=True) if row.parent else None
    if parent is not None and JobState(parent.state).ended:
        move_job(connection, parent, JobState.QUEUED, **{**fresh, "forgiven": 0})


def _locked_children(connection: Connection, parent: str) -> Sequence[Row[Any]]:
    query = select(jobs).where(jobs.c.parent == parent).order_by(jobs.c.number)
    return connection.execute(query.with_for_update()).all()


def error_text(failure: JobFailure) -> str:
    """Write a failure as it is kept."""
    return canonical({"code": failure.code, "message": failure.message, "hint": failure.hint})


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row keeps."""
    metrics = {name: float(value) for name, value in json.loads(row.metrics).items()}
    return Job(
        id=row.id,
        kind=row.kind,
        namespace=row.namespace,
        parameters=json.loads(row.parameters),
        state=JobState(row.state),
        cancel_requested=bool(row.cancel_requested),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        progress=JobProgress(row.step, row.total, row.message, metrics),
        asked_by=row.asked_by,
        grants={name: Role(role) for name, role in json.loads(row.grants).items()},
        gpus=row.gpus,
        parent=row.parent,
        children=row.children,
        owner=row.lease_owner,
        lease_expires_at=row.lease_expires_at,
        heartbeat_at=row.heartbeat_at,
        checkpoint=Digest(row.checkpoint) if row.checkpoint else None,
        result=_result(row),
        outcome=json.loads(row.outcome) if row.outcome else None,
        error=JobFailure(**json.loads(row.error)) if row.error else None,
        version=row.version,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _result(row: Row[Any]) -> JobResult | None:
    if row.result_digest is None:
        return None
    return JobResult(AdapterName(row.result_namespace, row.result_name), Digest(row.result_digest))
