"""Make, list and revoke tokens, each by an administrator of its namespace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path

from api.hub.deps import Caller, HubDep, json_only
from api.hub.problem_responses import problems
from api.hub.rights import demand
from api.hub.route_kinds import JsonRoute
from api.schemas_admin import NewTokenBody, TokenBody, TokensBody
from api.schemas_requests import TokenIn
from registry.catalog.errors import TokenNotFoundError
from registry.tokens import EVERYTHING, Principal, Role, TokenRecord

router = APIRouter(
    prefix="/api/v1/tokens",
    tags=["tokens"],
    route_class=JsonRoute,
    responses=problems(401, 403, 422, 429, 503),
)
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]


@router.get("")
def list_tokens(caller: Caller, hub: HubDep) -> TokensBody:
    """List the tokens of the namespaces that the caller administers."""
    ruled = _ruled(caller)
    records = hub.registry.tokens.list(ruled)
    return TokensBody(items=[_body(record) for record in records])


@router.post(
    "", status_code=201, responses=problems(400, 413, 415), dependencies=[Depends(json_only)]
)
def create_token(caller: Caller, hub: HubDep, body: TokenIn) -> NewTokenBody:
    """Make a token; its secret is shown in this answer and never again."""
    demand(caller, body.namespace, Role.ADMIN)
    record, secret = hub.registry.tokens.create(
        body.namespace,
        Role(body.role),
        label=body.label,
        expires_at=body.expires_at,
        principal=caller.label,
    )
    return NewTokenBody(**_body(record).model_dump(), secret=secret)


@router.delete("/{token_id}", status_code=204, responses=problems(404))
def revoke_token(caller: Caller, hub: HubDep, token_id: TokenId) -> None:
    """Revoke a token for good."""
    record = hub.registry.tokens.get(token_id)
    if not caller.may(Role.ADMIN, record.namespace):
        raise TokenNotFoundError(token_id)
    hub.registry.tokens.revoke(token_id, principal=caller.label)


def _ruled(caller: Principal) -> frozenset[str] | None:
    if caller.may(Role.ADMIN, EVERYTHING):
        return None
    return frozenset(n for n in caller.grants if caller.may(Role.ADMIN, n))


def _body(record: TokenRecord) -> TokenBody:
    return TokenBody(**asdict(record))
