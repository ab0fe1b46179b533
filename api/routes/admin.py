"""Administer the whole hub: collect garbage, check every byte, count, and see who did what."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from api.hub.answers import stats_body
from api.hub.deps import AdminOfAll, HubDep, json_only
from api.hub.problem_responses import problems
from api.hub.route_kinds import JsonRoute
from api.routes.adapters import Cursor, Limit
from api.schemas import StatsBody
from api.schemas_admin import AuditEntryBody, AuditPage, CollectedBody, DamageBody, DamagesBody
from api.schemas_requests import CollectIn
from registry.collect import DEFAULT_GRACE_S
from registry.verify import FileVerdict

router = APIRouter(
    prefix="/api/v1/admin",
    tags=["admin"],
    route_class=JsonRoute,
    responses=problems(401, 403, 422, 429, 503),
)


@router.post("/gc", responses=problems(400, 413, 415), dependencies=[Depends(json_only)])
def collect(caller: AdminOfAll, hub: HubDep, body: CollectIn) -> CollectedBody:
    """Remove what no ref reaches and nobody touched for the grace time; by default, list it."""
    report = hub.registry.collector.collect(
        DEFAULT_GRACE_S if body.grace_s is None else body.grace_s,
        dry_run=body.dry_run,
        principal=caller.label,
    )
    return CollectedBody(
        dry_run=report.dry_run,
        blobs=[str(digest) for digest in report.blobs],
        manifests=[str(digest) for digest in report.manifests],
        size_bytes=report.size_bytes,
        records=report.records,
        holdings=report.holdings,
        uploads=report.uploads,
    )


@router.post("/verify")
def verify(_caller: AdminOfAll, hub: HubDep) -> DamagesBody:
    """Read every byte of every revision, and name what is damaged."""
    checked, damaged = 0, []
    for verdict in hub.registry.verifier.verify():
        checked += 1
        if not verdict.ok:
            damaged.append(_damage(verdict))
    return DamagesBody(checked=checked, damaged=damaged)


@router.get("/stats")
def stats(_caller: AdminOfAll, hub: HubDep) -> StatsBody:
    """Count what the hub holds."""
    return stats_body(hub.registry.stats())


@router.get("/audit")
def audit(_caller: AdminOfAll, hub: HubDep, cursor: Cursor = None, limit: Limit = 50) -> AuditPage:
    """Show who did what, newest first."""
    page = hub.registry.adapters.audit(cursor=cursor or None, limit=limit)
    items = [
        AuditEntryBody(
            time=act.time,
            principal=act.principal,
            action=act.action,
            subject=act.subject,
            digest=str(act.digest) if act.digest else None,
        )
        for act in page.items
    ]
    return AuditPage(items=items, next_cursor=page.next_cursor)


def _damage(verdict: FileVerdict) -> DamageBody:
    return DamageBody(
        adapter=str(verdict.adapter),
        revision=str(verdict.revision),
        path=verdict.path,
        digest=str(verdict.digest),
        detail=verdict.detail,
    )
