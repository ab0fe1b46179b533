"""List, show and delete adapters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.hub.answers import adapter_body, adapter_page
from api.hub.deps import AdminAdapter, Caller, HubDep, ReadableDep, ReadAdapter
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.schemas import AdapterBody, AdapterPage
from api.schemas_requests import PATTERN_PART, PATTERN_TEXT
from registry.catalog.cursors import MAX_PAGE
from registry.catalog.values import AdapterQuery

router = APIRouter(
    prefix="/api/v1/adapters",
    tags=["adapters"],
    route_class=JsonRoute,
    responses=problems(401, 403, 422, 429, 503),
)
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_\-]*$", max_length=4000)]
Search = Annotated[str | None, Query(pattern=PATTERN_TEXT, max_length=300)]


@router.get("")
def list_adapters(
    *,
    readable: ReadableDep,
    hub: HubDep,
    namespace: Annotated[str | None, Query(pattern=PATTERN_PART)] = None,
    base: Search = None,
    search: Search = None,
    kind: Search = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> AdapterPage:
    """List the adapters that the caller may read, by name; `base` takes any spelling."""
    query = AdapterQuery(
        readable=readable,
        namespace=namespace,
        base=base or None,
        search=search or None,
        kind=kind or None,
        cursor=cursor or None,
        limit=limit,
    )
    return adapter_page(hub.registry.adapters.list(query))


@router.get("/{namespace}/{name}", responses=problems(404))
def get_adapter(adapter: ReadAdapter, hub: HubDep) -> AdapterBody:
    """Show an adapter with its branches and tags."""
    return adapter_body(hub.registry.adapters.get(adapter))


@router.delete("/{namespace}/{name}", status_code=204, responses=problems(404, 409))
def delete_adapter(adapter: AdminAdapter, caller: Caller, hub: HubDep) -> None:
    """Delete an adapter with all its revisions; needs the admin right."""
    hub.registry.adapters.delete(adapter, principal=caller.label)
