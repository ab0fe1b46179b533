"""Tell people what a merge made, what was searched for it, and where its inputs disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api.cli import output
from api.cli.conflict_table import tell_conflicts
from api.cli.plot_conflicts import draw_conflicts
from api.cli.search_options import Search
from api.cli.search_view import search_bar, tell_search
from api.cli.session import Session
from api.workflows.search_curve import SearchResult
from api.workflows.weight_search import search_weights
from merge import MergeReport, Recipe, WeightedAdapter
from merge.conflict_report import ConflictReport


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what came of a merge.

    Attributes:
        report: what was made.
        place: where it is now.
        digest: of the revision, if it was published.
        search: how the weights were found, if they were searched.
        conflicts: where the inputs disagree, if somebody wanted to know.
    """

    report: MergeReport
    place: str
    digest: str | None = None
    search: SearchResult | None = None
    conflicts: ConflictReport | None = None


def searched(adapters: Sequence[WeightedAdapter], recipe: Recipe, search: Search) -> SearchResult:
    """Search the weights, with a bar.

    Raises:
        OptionError: a package is absent, or the rows do not fit the model.
        MergeError: the adapters cannot be merged so, or the method takes no weights.
    """
    with search_bar(search.options.steps) as on_step:
        return search_weights(
            adapters, recipe, search.task, options=search.options, on_step=on_step
        )


def draw(picture: Path, conflicts: ConflictReport) -> None:
    """Draw where the inputs disagree.

    Raises:
        DestinationError: the picture cannot be written.
    """
    names = " + ".join(Path(name).name for name in conflicts.inputs)
    draw_conflicts(picture, conflicts, title=names)
    output.message(f"drew {picture}")


def tell(session: Session, outcome: Outcome, *, names: Sequence[str]) -> None:
    """Print what came of a merge: with `--json` all of it.

    Args:
        session: the common options.
        outcome: what came of it.
        names: of the inputs, as they were typed.
    """
    report, search, conflicts = outcome.report, outcome.search, outcome.conflicts
    if session.as_json:
        value: dict[str, output.JsonValue] = {
            "result": outcome.place,
            "digest": outcome.digest,
            "method": report.method,
            "weights": list(report.weights),
            "modules": report.modules,
            "rank": report.rank,
            "error": report.error,
            "full_tensors": report.full_tensors,
            "heads": str(report.heads),
            "warnings": list(report.warnings),
        }
        if search is not None:
            value["search"] = search.to_json()
        if conflicts is not None:
            value["conflicts"] = conflicts.to_json()
        output.as_json(value)
        return
    for text in report.warnings:
        output.warning(text)
    if search is not None:
        tell_search(search, names)
    output.fields(
        [
            ("method", report.method),
            ("weights", ", ".join(f"{weight:g}" for weight in report.weights)),
            ("modules", output.count(report.modules)),
            ("rank", str(report.rank)),
            ("error of ΔW", f"{report.error:.4f}" if report.error else "none: nothing was cut"),
            ("full tensors", str(report.full_tensors)),
        ]
    )
    if conflicts is not None:
        tell_conflicts(conflicts)
    output.line(outcome.place)
