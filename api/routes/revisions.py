"""Push revisions, show them, walk their log, and check their bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from api.hub.answers import revision_body, revision_page, verdicts_body
from api.hub.deps import Caller, HubDep, ReadAdapter, ReferenceDep, WriteAdapter, json_only
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.hub.state import Hub
from api.problems import problem_of
from api.routes.adapters import Cursor, Limit
from api.schemas import MissingBlobBody, MissingBody, RevisionBody, RevisionPage, VerdictsBody
from api.schemas_requests import PATTERN_REF, MissingIn, PushIn
from registry.digest import Digest
from registry.errors import RegistryError
from registry.jobs.values import Lease
from registry.manifest_json import edge_value
from registry.push_request import (
    ANY,
    MAX_AUTHOR_CHARACTERS,
    ExpectedHead,
    PushFile,
    PushRequest,
    PushResult,
)
from registry.refs import DEFAULT_BRANCH, AdapterName, Reference

router = APIRouter(
    prefix="/api/v1/adapters/{namespace}/{name}",
    tags=["revisions"],
    route_class=JsonRoute,
    responses=problems(401, 403, 404, 422, 429, 503),
)


@router.get("/revisions")
def log(
    adapter: ReadAdapter,
    hub: HubDep,
    ref: Annotated[str, Query(pattern=PATTERN_REF)] = DEFAULT_BRANCH,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> RevisionPage:
    """Show what a branch, tag or commit went through, newest first."""
    reference = Reference(adapter, ref)
    return revision_page(hub.registry.adapters.log(reference, cursor=cursor or None, limit=limit))


@router.get("/revisions/{revision}")
def get_revision(reference: ReferenceDep, hub: HubDep) -> RevisionBody:
    """Show one revision."""
    return revision_body(hub.registry.adapters.resolve(reference))


@router.post("/verify/{revision}")
def verify(reference: ReferenceDep, hub: HubDep) -> VerdictsBody:
    """Read every byte of a revision and check its digests."""
    return verdicts_body(hub.registry.verifier.verify(reference))


@router.post("/blobs/missing", responses=problems(400, 413, 415), dependencies=[Depends(json_only)])
def missing(adapter: WriteAdapter, hub: HubDep, body: MissingIn) -> MissingBody:
    """Say which blobs a push must send, and from which byte on.

    The answer depends on what this namespace sent, and on nothing that others did.
    """
    wanted = {Digest.parse(blob.digest): blob.size_bytes for blob in body.blobs}
    found = hub.registry.pushes.missing(adapter.namespace, wanted)
    return MissingBody(
        missing=[MissingBlobBody(digest=str(m.digest), offset=m.offset) for m in found]
    )


@router.post(
    "/revisions",
    status_code=201,
    responses={
        200: {"model": RevisionBody, "description": "The branch had this content already"},
        **problems(400, 409, 413, 415),
    },
    dependencies=[Depends(json_only)],
)
def push(
    adapter: WriteAdapter, caller: Caller, hub: HubDep, body: PushIn, response: Response
) -> RevisionBody:
    """Make a revision of blobs that were sent, and move the branch to it, all or nothing."""
    author = _author(body.author, caller.label, known=hub.settings.needs_token)
    result = _commit(hub, _push_request(adapter, body, author, caller.lease))
    response.status_code = 201 if result.created else 200
    return revision_body(result.revision)


def _commit(hub: Hub, request: PushRequest) -> PushResult:
    try:
        result = hub.registry.pushes.commit(request)
    except RegistryError as error:
        hub.metrics.pushes.labels(problem_of(error).row.code).inc()
        raise
    hub.metrics.pushes.labels("created" if result.created else "same").inc()
    return result


def _push_request(
    adapter: AdapterName, body: PushIn, author: str, lease: Lease | None
) -> PushRequest:
    return PushRequest(
        adapter=adapter,
        files=tuple(PushFile(f.path, Digest.parse(f.digest), f.size_bytes) for f in body.files),
        branch=body.branch,
        expected_head=_expected_head(body),
        base_model=body.base_model,
        message=body.message,
        author=author,
        tags=tuple(body.tags),
        lineage=tuple(edge_value(edge) for edge in body.lineage),
        metrics=body.metrics,
        kind=body.kind,
        allow_non_finite=body.allow_non_finite,
        lease=lease,
    )


def _author(claimed: str, label: str, *, known: bool) -> str:
    """Return who pushes: a claim stands alone only where nobody can be told apart.

    What is too long is cut from the claim, so that the token's label always ends the text.
    """
    if not claimed:
        return label
    if not known:
        return claimed[:MAX_AUTHOR_CHARACTERS]
    end = f" ({label})"
    return claimed[: MAX_AUTHOR_CHARACTERS - len(end)] + end


def _expected_head(body: PushIn) -> ExpectedHead:
    if "expected_head" not in body.model_fields_set:
        return ANY
    return Digest.parse(body.expected_head) if body.expected_head else None
