"""Draw what a revision was made from and what was made from it, as trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from api.schemas import LineageEdgeBody
    from registry.refs import Reference

Branches = Callable[[str], Sequence[tuple[str, str]]]


@command(example="adapters lineage team/sql-expert-small")
@click.argument("reference", metavar="REF", type=REFERENCE)
@common
def lineage(session: Session, *, reference: Reference) -> None:
    """Show what a revision was made from.

    Sources stand below `from`, what was made of it below `into`.
    """
    with session.client() as client:
        revision = client.resolve(reference)
        graph = client.lineage(revision)
    if session.as_json:
        value = graph.model_dump(mode="json")
        output.as_json({"adapter": revision.manifest.adapter, "digest": revision.digest, **value})
        return
    output.line(f"{revision.manifest.adapter}@{output.short(revision.digest)}")
    if graph.ancestors:
        output.line("from")
        _draw(revision.digest, lambda node: _sources(node, graph.ancestors))
    if graph.descendants:
        output.line("into")
        _draw(revision.digest, lambda node: _products(node, graph.descendants))
    if graph.truncated:
        output.warning("there is more than the hub shows at once")


def _sources(node: str, edges: Sequence[LineageEdgeBody]) -> list[tuple[str, str]]:
    from api.cli.show import edge_text

    return [(e.edge.revision, edge_text(e.edge)) for e in edges if e.revision == node]


def _products(node: str, edges: Sequence[LineageEdgeBody]) -> list[tuple[str, str]]:
    return [
        (e.revision, f"{e.adapter}@{output.short(e.revision)} by {e.edge.operation.value}")
        for e in edges
        if e.edge.revision == node
    ]


def _draw(root: str, branches: Branches) -> None:
    """Print a graph as a tree; what was drawn before is not opened again."""
    seen: set[str] = set()
    # Each entry: the node, its text and the lines to the left of it; the last is drawn first.
    stack: list[tuple[str, str, str, bool]] = []

    def push(node: str, indent: str) -> None:
        children = [] if node in seen else list(branches(node))
        seen.add(node)
        for position, (child, text) in enumerate(reversed(children)):
            stack.append((child, text, indent, position == 0))

    push(root, "")
    while stack:
        node, text, indent, last = stack.pop()
        output.line(f"{indent}{'└─ ' if last else '├─ '}{text}")
        push(node, indent + ("   " if last else "│  "))
