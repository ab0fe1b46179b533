"""Ask for jobs, watch them, cancel them and try them again.

A job belongs to a namespace, or to all of them: whoever may not read there is told that there is
no such job. To ask for one, cancel it or try it again takes the write right there.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse

from api.hub.deps import Caller, HubDep, ReadableDep, json_only
from api.hub.job_answers import job_body, job_page, log_body
from api.hub.job_events import MEDIA_TYPE, events, place_of
from api.hub.problem_responses import problems
from api.hub.rights import demand
from api.hub.route_kinds import JsonRoute
from api.jobs.asking import JobRequest, ask
from api.jobs.kinds import KINDS
from api.routes.adapters import Cursor, Limit
from api.schemas_jobs import (
    PATTERN_JOB,
    JobBody,
    JobIn,
    JobKindBody,
    JobKindsBody,
    JobLogBody,
    JobPage,
)
from api.schemas_requests import PATTERN_PART
from registry.jobs.errors import JobNotFoundError
from registry.jobs.states import JobState
from registry.jobs.values import Job, JobQuery
from registry.tokens import Role

router = APIRouter(
    prefix="/api/v1/jobs",
    tags=["jobs"],
    route_class=JsonRoute,
    responses=problems(401, 403, 422, 429, 503),
)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}
JobId = Annotated[str, Path(pattern=PATTERN_JOB, examples=["1f3a90c2d4e5b6a7"])]


def read_job(caller: Caller, hub: HubDep, job_id: JobId) -> Job:
    """Return the job named by the path, if the caller may read its namespace.

    Raises:
        JobNotFoundError: the caller may not, whether or not it is there.
    """
    job = hub.registry.jobs.get(job_id)
    if not caller.may(Role.READ, job.namespace):
        raise JobNotFoundError(job_id)
    return job


ReadJob = Annotated[Job, Depends(read_job)]


def write_job(caller: Caller, job: ReadJob) -> Job:
    """Return the job named by the path, if the caller may write in its namespace."""
    demand(caller, job.namespace, Role.WRITE)
    return job


WriteJob = Annotated[Job, Depends(write_job)]


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": JobBody, "description": "The job that this key stands for"},
        **problems(400, 404, 409, 413, 415),
    },
    dependencies=[Depends(json_only)],
)
def submit(caller: Caller, hub: HubDep, body: JobIn, response: Response) -> JobBody:
    """Queue a job."""
    request = JobRequest(
        body.kind, body.parameters, body.idempotency_key, body.gpus, body.max_attempts
    )
    job, new = ask(hub.registry, caller, request)
    response.status_code = 201 if new else 200
    return job_body(job)


@router.get("")
def list_jobs(
    *,
    readable: ReadableDep,
    hub: HubDep,
    state: JobState | None = None,
    kind: Annotated[str | None, Query(pattern=PATTERN_PART)] = None,
    parent: Annotated[str | None, Query(pattern=PATTERN_JOB)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> JobPage:
    """List the jobs that the caller may read, newest first; those of a map with its `parent`."""
    query = JobQuery(readable, state, kind, parent, cursor or None, limit)
    return job_page(hub.registry.jobs.list(query))


@router.get("/kinds")
def kinds(_caller: Caller) -> JobKindsBody:
    """List the kinds of jobs, and what each takes."""
    items = [
        JobKindBody(kind=name, summary=kind.summary, parameters=kind.parameters.model_json_schema())
        for name, kind in KINDS.items()
    ]
    return JobKindsBody(items=items)


@router.get("/{job_id}", responses=problems(404))
def get_job(job: ReadJob) -> JobBody:
    """Show a job."""
    return job_body(job)


@router.post("/{job_id}/cancel", responses=problems(404))
def cancel(job: WriteJob, caller: Caller, hub: HubDep) -> JobBody:
    """Cancel a job, at once if it waits; one that runs is asked to stop, and then killed."""
    return job_body(hub.registry.jobs.cancel(job.id, principal=caller.label))


@router.post("/{job_id}/retry", responses=problems(404, 409))
def retry(job: WriteJob, caller: Caller, hub: HubDep) -> JobBody:
    """Queue a job again that failed or was cancelled; it goes on from its checkpoint."""
    return job_body(hub.registry.jobs.retry(job.id, principal=caller.label))


@router.get("/{job_id}/log", responses=problems(404))
def log(
    job: ReadJob,
    hub: HubDep,
    after: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
    limit: Limit = 200,
) -> JobLogBody:
    """Show the end of a job's log, behind the line with the number `after`."""
    return log_body(hub.registry.jobs.log(job.id, after=after, limit=limit))


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={**_EVENTS, **problems(404)},
)
def job_events(
    job: ReadJob,
    hub: HubDep,
    last_event_id: Annotated[str, Header(max_length=64, pattern=r"^[0-9.]*$")] = "",
) -> StreamingResponse:
    """Stream the job and its log as server-sent events until it ends."""
    return StreamingResponse(
        events(hub.registry.jobs, job.id, place_of(last_event_id), hub.closing),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
