"""Look into weights."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.compress_report import LOSSLESS, heads_text, layer_table
from api.cli.output import Column
from api.cli.session import Session, command, common
from api.cli.sources import as_folder

if TYPE_CHECKING:
    from compress.inspected import Inspected
    from compress.reports import ModuleReport

_PLOTS = (".png", ".svg")


@command(example="adapters inspect sql-expert.tern --against ./sql-expert --plot curve.svg")
@click.argument("source", metavar="SRC")
@click.option("--against", metavar="ORIGINAL", help="Compare with what it was made from.")
@click.option(
    "--plot",
    "picture",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw error against bits, with the bound: a .png or .svg.",
)
@common
def inspect(session: Session, *, source: str, against: str | None, picture: Path | None) -> None:
    """Look into the weights, module by module.

    Works on folders, files and revisions, compressed or not. What is not compressed shows the least
    error of ΔW that any coder could reach; what is shows it with --against.
    """
    from compress import inspect as look

    if picture is not None and picture.suffix.lower() not in _PLOTS:
        raise click.UsageError(f"--plot draws {' or '.join(_PLOTS)}, not {picture.name!r}")
    with ExitStack() as stack:
        path = stack.enter_context(as_folder(session, source))
        other = stack.enter_context(as_folder(session, against)) if against else None
        found = look(path, against=other)
        if picture is not None:
            from api.cli.plot import draw

            draw(picture, found, path=path, against=other, title=Path(source).name)
    for text in found.warnings:
        output.warning(text)
    if found.erased:
        output.alarm(
            f"ERASED: nothing is left of {len(found.erased)} of {len(found.modules)} modules"
        )
    if picture is not None:
        output.message(f"drew {picture}")
    if session.as_json:
        output.as_json({**found.to_json(), "path": source})
        return
    output.fields(_fields(source, found))
    output.line("")
    if found.layers:
        layer_table(found.layers)
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


def _fields(source: str, found: Inspected) -> list[tuple[str, str]]:
    shown = {k: v for k, v in found.properties.items() if len(v) <= 120}
    return [
        ("adapter", source),
        ("encoding", " ".join(part for part in (found.encoding, found.peft_type) if part)),
        ("task vector", f"{output.count(found.parameters)} parameters: {found.treatment}"),
        ("not zero", output.count(found.nonzero)),
        ("bits per parameter", _bits(found)),
        ("ratio", f"{found.ratio:.1f}× of {found.stored_dtype}" if found.part_bytes else ""),
        ("bytes", _bytes(found)),
        ("rounded heads", heads_text(found.heads)),
        ("kept exactly", _exact(found)),
        ("error of ΔW", _error(found)),
        ("cosine of ΔW", _number(found.delta_cosine, none="")),
        ("Shannon bound", _shannon(found)),
        ("water-filling", _bounds(found)),
        *shown.items(),
    ]


def _bits(found: Inspected) -> str:
    if found.properties.get("method") == LOSSLESS:
        return ""
    if not found.part_bytes:
        return f"{found.bits_per_param:.3f}, as {found.stored_dtype or 'nothing'}"
    return f"{found.bits_per_param:.3f}, {found.lossy_ratio:.1f}× of {found.stored_dtype}"


def _bytes(found: Inspected) -> str:
    """Tell apart what the task vector, heads and everything else take."""
    size = found.size
    parts = found.part_bytes
    if not parts:
        return f"{output.size(size.lossy)} task vector, {output.size(size.exact)} rest"
    coded = parts.get("trits", 0) + parts.get("layers", 0)
    told = [
        f"{output.size(coded)} {'layers' if parts.get('layers') else 'trits'}" if coded else "",
        f"{output.size(size.lossy - coded)} header, names and config",
        f"{output.size(size.heads)} rounded heads" if size.heads else "",
        f"{output.size(size.exact)} kept exactly" if size.exact else "",
    ]
    return ", ".join(text for text in told if text)


def _exact(found: Inspected) -> str:
    if found.properties.get("method") == LOSSLESS:
        return "everything"
    if not found.exact_tensors:
        return ""
    count = output.count(found.exact_parameters)
    return f"{len(found.exact_tensors)} tensors, {count} parameters"


def _error(found: Inspected) -> str:
    if found.delta_error is None or not found.error_bound:
        return _number(found.delta_error, none="")
    ratio = found.delta_error / found.error_bound
    bound = f"{ratio:.3f} × the water-filling bound {found.error_bound:.4g}"
    return f"{found.delta_error:.4g}, {bound}"


def _shannon(found: Inspected) -> str:
    if not found.shannon_bytes:
        return ""
    share = found.size.lossy / found.shannon_bytes
    return f"{output.size(found.shannon_bytes)} of symbols; the compressed part is {share:.3f} ×"


def _bounds(found: Inspected) -> str:
    told = [f"{point.error:.4g} at {point.bits_per_param:g}" for point in found.bounds]
    return f"least error of ΔW {', '.join(told)} bits per parameter" if told else ""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, *, none: str = "–") -> str:
    return none if value is None else f"{value:.4g}"
