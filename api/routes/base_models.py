"""List, show and register base models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from api.hub.answers import base_model_body
from api.hub.deps import AdminOfAll, HubDep, ReadableDep, json_only
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.schemas_admin import BaseModelBody, BaseModelsBody
from api.schemas_requests import PATTERN_TEXT, BaseModelIn

router = APIRouter(
    prefix="/api/v1/base-models",
    tags=["base models"],
    route_class=JsonRoute,
    responses=problems(401, 403, 422, 429, 503),
)
BaseName = Annotated[
    str,
    Path(pattern=PATTERN_TEXT, min_length=1, max_length=300, description="in any spelling"),
]


@router.get("")
def list_base_models(readable: ReadableDep, hub: HubDep) -> BaseModelsBody:
    """List the base models that were registered, and those of adapters the caller may read."""
    records = hub.registry.bases.list(readable)
    return BaseModelsBody(items=[base_model_body(r, shapes=False) for r in records])


@router.get("/{name:path}", responses=problems(404))
def get_base_model(readable: ReadableDep, hub: HubDep, name: BaseName) -> BaseModelBody:
    """Show a base model, by any of its spellings."""
    return base_model_body(hub.registry.bases.get(name, readable=readable))


@router.post(
    "", status_code=201, responses=problems(400, 409, 413, 415), dependencies=[Depends(json_only)]
)
def register_base_model(caller: AdminOfAll, hub: HubDep, body: BaseModelIn) -> BaseModelBody:
    """Register a base model, its aliases and its shapes; this holds for every namespace."""
    record = hub.registry.bases.register(
        body.name,
        aliases=body.aliases,
        config=body.config.encode() if body.config is not None else None,
        principal=caller.label,
    )
    return base_model_body(record)
