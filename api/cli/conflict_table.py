"""Tell people where adapters contradict one another: the whole, and the worst modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.cli import output
from api.cli.output import Column

if TYPE_CHECKING:
    from merge.conflict_report import ConflictReport

_WORST = 10
_COLUMNS = (
    Column("module"),
    Column("interference", right=True),
    Column("sign agreement", right=True),
    Column("norm kept", right=True),
    Column("cosine", right=True),
)


def tell_conflicts(report: ConflictReport) -> None:
    """Print the totals of a merge and the ten modules with the most interference."""
    pair = report.worst_pair
    output.fields(
        [
            ("sign agreement", _number(report.sign_agreement)),
            ("norm kept", _number(report.norm_kept)),
            ("mean cosine", _number(report.cosine)),
            ("least cosine", f"{pair.cosine:.3f}: {pair.first}, {pair.second}" if pair else ""),
            *(
                (f"interference {at}", f"{_number(value)}: {name}")
                for at, (name, value) in enumerate(
                    zip(report.inputs, report.interference, strict=True), 1
                )
            ),
        ]
    )
    worst = report.worst(_WORST)
    if not worst:
        return
    output.line("")
    output.table(
        _COLUMNS,
        [
            (
                name.removeprefix("base_model.model."),
                _number(conflict.mean_interference),
                _number(conflict.sign_agreement),
                _number(conflict.norm_kept),
                _number(conflict.cosine),
            )
            for name, conflict in worst
        ],
    )
    if len(report.modules) > len(worst):
        output.line(f"the worst {len(worst)} of {len(report.modules)} modules")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
