"""List adapters and revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from api.schemas import AdapterBody, RevisionBody
    from registry.refs import Reference


@command("list", example="adapters list --base all-MiniLM-L6-v2")
@click.option("--namespace", metavar="NAME", help="Only of this namespace.")
@click.option("--base", metavar="NAME", help="Only of this base model, in any spelling.")
@click.option("--search", metavar="TEXT", help="Only whose name or base contains this.")
@click.option("--kind", metavar="KIND", help="Only of this kind, as LORA.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@common
def list_adapters(
    session: Session,
    *,
    namespace: str | None,
    base: str | None,
    search: str | None,
    kind: str | None,
    limit: int | None,
    quiet: bool,
) -> None:
    """List adapters."""
    with session.client() as client:
        found = client.adapters(
            namespace=namespace, base=base, search=search, kind=kind, limit=limit
        )
        adapters = list(found)
    if session.as_json:
        output.as_json([adapter.model_dump(mode="json") for adapter in adapters])
    elif quiet:
        for adapter in adapters:
            output.line(adapter.name)
    else:
        _adapter_table(adapters)


def _adapter_table(adapters: list[AdapterBody]) -> None:
    if not adapters:
        output.message("no adapters: `adapters push FOLDER NAME` makes the first")
        return
    columns = (
        Column("name"),
        Column("kind"),
        Column("base model"),
        Column("revisions", right=True),
        Column("size", right=True),
        Column("updated"),
    )
    rows = [
        (
            adapter.name,
            adapter.kind,
            adapter.base_model or "–",
            output.count(adapter.revisions),
            output.size(adapter.size_bytes),
            output.when(adapter.updated_at),
        )
        for adapter in adapters
    ]
    output.table(columns, rows)


@command(example="adapters log team/sql-expert --limit 5")
@click.argument("reference", metavar="REF", type=REFERENCE)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("-q", "--quiet", is_flag=True, help="Print digests only.")
@common
def log(session: Session, *, reference: Reference, limit: int | None, quiet: bool) -> None:
    """List the revisions of a branch, newest first."""
    with session.client() as client:
        revisions = list(client.log(reference, limit=limit))
    if session.as_json:
        output.as_json([revision.model_dump(mode="json") for revision in revisions])
    elif quiet:
        for revision in revisions:
            output.line(revision.digest)
    else:
        output.table(_LOG_COLUMNS, [_log_row(revision) for revision in revisions])


_LOG_COLUMNS = (
    Column("revision"),
    Column("when (UTC)"),
    Column("author"),
    Column("size", right=True),
    Column("refs"),
    Column("message"),
)


def _log_row(revision: RevisionBody) -> tuple[str, ...]:
    manifest = revision.manifest
    return (
        output.short(revision.digest),
        output.when(manifest.created_at),
        manifest.author or "–",
        output.size(sum(file.size_bytes for file in manifest.files)),
        ", ".join(ref.name for ref in revision.refs),
        manifest.message.partition("\n")[0],
    )
