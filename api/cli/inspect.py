"""Look into weights."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session, command, common
from api.cli.sources import as_folder

if TYPE_CHECKING:
    from compress.reports import Inspection, ModuleReport


@command(example="adapters inspect sql-expert.tern --against ./sql-expert")
@click.argument("source", metavar="SRC")
@click.option("--against", metavar="ORIGINAL", help="Compare with what it was made from.")
@common
def inspect(session: Session, *, source: str, against: str | None) -> None:
    """Look into the weights, module by module.

    Works on folders, files and revisions, compressed or not.
    """
    from compress import inspect as look

    with ExitStack() as stack:
        path = stack.enter_context(as_folder(session, source))
        other = stack.enter_context(as_folder(session, against)) if against else None
        found = look(path, against=other)
    for text in found.warnings:
        output.warning(text)
    if found.erased:
        output.alarm(
            f"ERASED: nothing is left of {len(found.erased)} of {len(found.modules)} modules"
        )
    if session.as_json:
        output.as_json({**found.to_json(), "path": source})
        return
    _fields(source, found)
    output.line("")
    module_table(found.modules)


def module_table(modules: tuple[ModuleReport, ...]) -> None:
    """Print one row per module; an erased one says so."""
    columns = (
        Column("module"),
        Column("parameters", right=True),
        Column("rank", right=True),
        Column("A ≠ 0", right=True),
        Column("B ≠ 0", right=True),
        Column("‖ΔW‖", right=True),
        Column("error", right=True),
        Column(""),
    )
    rows = [
        (
            module.name,
            output.count(module.parameters),
            str(module.rank or "–"),
            _share(module.density_a),
            _share(module.density_b),
            _number(module.norm),
            _number(module.error),
            "ERASED" if module.erased else "",
        )
        for module in modules
    ]
    output.table(columns, rows)


def _fields(source: str, found: Inspection) -> None:
    kept = f"{len(found.exact_tensors)} tensors, {output.count(found.exact_parameters)} parameters"
    shown = {k: v for k, v in found.properties.items() if len(v) <= 120}
    lossy, exact = output.size(found.size.lossy), output.size(found.size.exact)
    output.fields(
        [
            ("adapter", source),
            ("encoding", " ".join(part for part in (found.encoding, found.peft_type) if part)),
            ("task vector", f"{output.count(found.parameters)} parameters: {found.treatment}"),
            ("not zero", output.count(found.nonzero)),
            ("bits per parameter", f"{found.bits_per_param:.3f}"),
            ("bytes", f"{lossy} task vector, {exact} kept exactly"),
            ("kept exactly", kept if found.exact_tensors else ""),
            ("error of ΔW", _number(found.delta_error, none="")),
            ("cosine of ΔW", _number(found.delta_cosine, none="")),
            *shown.items(),
        ]
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, *, none: str = "–") -> str:
    return none if value is None else f"{value:.4g}"
