"""Show, set and delete branches and tags."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from api.hub.answers import ref_body, refs_body
from api.hub.deps import Caller, HubDep, ReadAdapter, WriteAdapter, json_only, parse_revision
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.schemas import RefBody, RefsBody
from api.schemas_requests import PATTERN_REF, TagIn
from registry.refs import RefKind

router = APIRouter(
    prefix="/api/v1/adapters/{namespace}/{name}",
    tags=["refs"],
    route_class=JsonRoute,
    responses=problems(401, 403, 404, 422, 429, 503),
)
RefName = Annotated[
    str, Path(pattern=PATTERN_REF, description="a slash in it is written %2F", examples=["v1"])
]


@router.get("/refs")
def refs(adapter: ReadAdapter, hub: HubDep) -> RefsBody:
    """Show every branch and tag."""
    return refs_body(hub.registry.adapters.refs(adapter))


@router.put(
    "/tags/{tag}", responses=problems(400, 409, 413, 415), dependencies=[Depends(json_only)]
)
def put_tag(
    adapter: WriteAdapter, caller: Caller, hub: HubDep, tag: RefName, body: TagIn
) -> RefBody:
    """Set a tag; setting it again to the same revision succeeds, to another does not."""
    reference = parse_revision(adapter, body.revision)
    return ref_body(hub.registry.adapters.tag(reference, tag, principal=caller.label))


@router.delete("/tags/{tag}", status_code=204, responses=problems(409))
def delete_tag(adapter: WriteAdapter, caller: Caller, hub: HubDep, tag: RefName) -> None:
    """Delete a tag; revisions that nothing else reaches go with it."""
    hub.registry.adapters.delete_ref(adapter, RefKind.TAG, tag, principal=caller.label)


@router.delete("/branches/{branch}", status_code=204, responses=problems(409))
def delete_branch(adapter: WriteAdapter, caller: Caller, hub: HubDep, branch: RefName) -> None:
    """Delete a branch; revisions that nothing else reaches go with it."""
    hub.registry.adapters.delete_ref(adapter, RefKind.BRANCH, branch, principal=caller.label)
