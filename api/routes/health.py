"""Say that the hub runs, what it counts, and who is asking."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.hub.deps import Caller, HubDep, identify
from api.hub.metrics import CONTENT_TYPE
from api.hub.problem_responses import problems
from api.hub.rights import demand
from api.schemas import StatusBody, WhoamiBody
from registry.catalog.values import AdapterQuery
from registry.digest import Digest
from registry.tokens import EVERYTHING, Role

router = APIRouter(tags=["health"], responses=problems(403))


@router.get("/health")
async def health() -> StatusBody:
    """Say that the process answers."""
    return StatusBody(status="ok")


@router.get("/ready", responses=problems(503))
def ready(hub: HubDep) -> StatusBody:
    """Say that database and store answer too."""
    hub.registry.adapters.list(AdapterQuery(limit=1))
    hub.registry.store.stat(Digest.of(b""))
    return StatusBody(status="ready")


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}},
        **problems(401, 429),
    },
)
def metrics(request: Request, hub: HubDep) -> Response:
    """Show the counters in Prometheus' text format, which tell what all namespaces do together.

    Needs a token that reads every namespace, unless a setting opens it.
    """
    if not hub.settings.metrics_open:
        demand(identify(request, hub), EVERYTHING, Role.READ)
    return Response(hub.metrics.render(), media_type=CONTENT_TYPE)


@router.get("/api/v1/whoami", responses=problems(401, 429))
def whoami(caller: Caller, hub: HubDep) -> WhoamiBody:
    """Show who the caller is and what that allows."""
    return WhoamiBody(
        label=caller.label,
        grants={namespace: str(role) for namespace, role in sorted(caller.grants.items())},
        open=not hub.settings.needs_token,
    )
