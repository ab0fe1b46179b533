"""Show what a revision was made from and what was made from it."""

from __future__ import annotations

from fastapi import APIRouter

from api.hub.answers import lineage_body
from api.hub.deps import HubDep, ReadableDep, ReferenceDep
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.schemas import LineageBody

router = APIRouter(
    prefix="/api/v1/adapters/{namespace}/{name}",
    tags=["lineage"],
    route_class=JsonRoute,
    responses=problems(401, 403, 404, 422, 429, 503),
)


@router.get("/lineage/{revision}")
def lineage(reference: ReferenceDep, readable: ReadableDep, hub: HubDep) -> LineageBody:
    """Show ancestors and descendants, as far as the caller may read them."""
    return lineage_body(hub.registry.adapters.lineage(reference, readable=readable))
