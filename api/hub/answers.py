"""Turn the registry's values into the bodies that the API shows."""

from __future__ import annotations

from collections.abc import Iterable

from api.schemas import (
    AdapterBody,
    AdapterPage,
    LineageBody,
    LineageEdgeBody,
    RefBody,
    RefsBody,
    RevisionBody,
    RevisionPage,
    StatsBody,
    VerdictBody,
    VerdictsBody,
)
from api.schemas_admin import BaseModelBody
from registry.catalog.values import (
    AdapterRecord,
    BaseModelRecord,
    GraphEdge,
    LineageGraph,
    Page,
    RefRecord,
    RevisionRecord,
    Stats,
)
from registry.manifest_json import edge_body, to_body
from registry.refs import RefKind
from registry.verify import FileVerdict


def ref_body(record: RefRecord) -> RefBody:
    """Return the body of a ref."""
    return RefBody(
        kind=record.kind, name=record.name, digest=str(record.digest), moved_at=record.moved_at
    )


def refs_body(records: Iterable[RefRecord]) -> RefsBody:
    """Return the body of an adapter's refs."""
    bodies = [ref_body(record) for record in records]
    return RefsBody(
        branches=[ref for ref in bodies if ref.kind is RefKind.BRANCH],
        tags=[ref for ref in bodies if ref.kind is RefKind.TAG],
    )


def adapter_body(record: AdapterRecord) -> AdapterBody:
    """Return the body of an adapter."""
    return AdapterBody(
        name=str(record.name),
        base_model=record.base_model,
        kind=record.kind,
        created_at=record.created_at,
        updated_at=record.updated_at,
        revisions=record.revisions,
        size_bytes=record.size_bytes,
        branches=[ref_body(ref) for ref in record.branches],
        tags=[ref_body(ref) for ref in record.tags],
    )


def adapter_page(page: Page[AdapterRecord]) -> AdapterPage:
    """Return the body of a page of adapters."""
    return AdapterPage(
        items=[adapter_body(item) for item in page.items], next_cursor=page.next_cursor
    )


def revision_body(record: RevisionRecord) -> RevisionBody:
    """Return the body of a revision."""
    return RevisionBody(
        digest=str(record.digest),
        commit_id=record.digest.commit_id,
        manifest=to_body(record.manifest),
        refs=[ref_body(ref) for ref in record.refs],
    )


def revision_page(page: Page[RevisionRecord]) -> RevisionPage:
    """Return the body of a page of revisions."""
    return RevisionPage(
        items=[revision_body(item) for item in page.items], next_cursor=page.next_cursor
    )


def verdicts_body(verdicts: Iterable[FileVerdict]) -> VerdictsBody:
    """Return the body of what was found in files."""
    files = [
        VerdictBody(path=v.path, digest=str(v.digest), ok=v.ok, detail=v.detail) for v in verdicts
    ]
    return VerdictsBody(files=files)


def _lineage_edge(edge: GraphEdge) -> LineageEdgeBody:
    return LineageEdgeBody(
        adapter=str(edge.adapter),
        revision=str(edge.child),
        edge=edge_body(edge.edge),
        distance=edge.distance,
    )


def lineage_body(graph: LineageGraph) -> LineageBody:
    """Return the body of a lineage graph."""
    return LineageBody(
        ancestors=[_lineage_edge(edge) for edge in graph.ancestors],
        descendants=[_lineage_edge(edge) for edge in graph.descendants],
        truncated=graph.truncated,
    )


def base_model_body(record: BaseModelRecord, *, shapes: bool = True) -> BaseModelBody:
    """Return the body of a base model, in listings without its shapes."""
    return BaseModelBody(
        name=record.name,
        key=record.key,
        aliases=list(record.aliases),
        shapes={m: list(shape) for m, shape in record.shapes.items()} if shapes else {},
        configured=record.configured,
        adapters=record.adapters,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def stats_body(stats: Stats) -> StatsBody:
    """Return the body of the hub's counts."""
    return StatsBody(
        adapters=stats.adapters,
        revisions=stats.revisions,
        base_models=stats.base_models,
        blobs=stats.blobs,
        size_bytes=stats.size_bytes,
        namespaces=stats.namespaces,
    )
