"""Compare two adapters."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session, command, common
from api.cli.sources import as_folder, local_path, parse_reference

if TYPE_CHECKING:
    from api.workflows.diff import Difference, Side
    from compress.reports import ModuleReport


@command(example="adapters diff team/sql-expert:v1 ./out --weights")
@click.argument("before", metavar="REF")
@click.argument("after", metavar="REF")
@click.option("--weights", is_flag=True, help="Also how much ΔW changed, module by module.")
@common
def diff(session: Session, *, before: str, after: str, weights: bool) -> None:
    """Compare two adapters: files, config, weights.

    Each side is a revision on the hub or a local folder.
    """
    from api.workflows.diff import compare

    left, right = _side(session, before), _side(session, after)
    found = compare(left, right)
    modules = _modules(session, before, after) if weights else ()
    if session.as_json:
        output.as_json(_json(left, right, found, modules if weights else None))
        return
    _print(found)
    if weights:
        columns = (
            Column("module"),
            Column("change of ΔW", right=True),
            Column("cosine", right=True),
        )
        rows = [(m.name, _number(m.error), _number(m.cosine)) for m in modules]
        output.table(columns, rows)


def _side(session: Session, text: str) -> Side:
    from api.workflows.diff import hub_side, local_side

    path = local_path(text)
    if path is not None:
        return local_side(path)
    with session.client() as client:
        return hub_side(client, client.resolve(parse_reference(text)))


def _modules(session: Session, before: str, after: str) -> tuple[ModuleReport, ...]:
    from compress import inspect

    with ExitStack() as stack:
        original = stack.enter_context(as_folder(session, before))
        changed = stack.enter_context(as_folder(session, after))
        return inspect(changed, against=original).modules


def _json(
    left: Side, right: Side, found: Difference, modules: tuple[ModuleReport, ...] | None
) -> dict[str, object]:
    value: dict[str, object] = {"before": left.label, "after": right.label, "same": found.same}
    value |= asdict(found)
    if modules is not None:
        value["modules"] = [
            {"name": m.name, "error": m.error, "cosine": m.cosine, "rank": m.rank} for m in modules
        ]
    return value


def _print(found: Difference) -> None:
    for name, style in ((found.removed, "-"), (found.added, "+"), (found.changed, "~")):
        for path in name:
            output.line(f"{style} {path}")
    for change in found.config:
        output.line(f"  {change.key}: {change.before} → {change.after}")
    if found.same:
        output.message("no difference")
    else:
        counts = (
            f"{len(found.added)} added",
            f"{len(found.removed)} removed",
            f"{len(found.changed)} changed",
            f"{len(found.unchanged)} the same",
        )
        output.message(", ".join(counts))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
