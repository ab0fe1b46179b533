"""Print which experts are alike, for people or for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api.cli import output
from api.cli.output import Column
from api.workflows.similar_json import comparison_json, nearest_json

if TYPE_CHECKING:
    from api.cli.session import Session
    from api.workflows.similar import Comparison, Nearest
    from merge.compressed.comparable import Refused


def tell_nearest(session: Session, near: Nearest, refused: Sequence[Refused], *, top: int) -> None:
    """Print the experts beside one, the nearest first, and who cannot be compared."""
    if session.as_json:
        output.as_json(nearest_json(near, refused, top=top))
        return
    shown = near.neighbours[:top]
    odd = (*refused, *near.refused)
    columns = (Column("cosine", right=True), Column("expert"), Column("method"), Column(""))
    rows = [
        (
            _cosine(one.cosine),
            one.label,
            one.method,
            _relation(one.relation, same_source=one.same_source),
        )
        for one in shown
    ]
    if rows:
        output.table(columns, rows)
    _tell_beside(len(near.neighbours), len(shown), near.zero, odd)


def tell_all(
    session: Session, compared: Comparison, refused: Sequence[Refused], *, top: int
) -> None:
    """Print pairs that are alike, clusters where there are any, and who cannot be compared."""
    if session.as_json:
        output.as_json(comparison_json(compared, refused))
        return
    labels = [expert.label for expert in compared.experts]
    members = compared.clusters.members() if compared.clusters is not None else None
    odd = (*refused, *compared.refused)
    shown = compared.pairs[:top]
    columns = (Column("cosine", right=True), Column("one"), Column("other"), Column(""))
    rows = [
        (
            _cosine(pair.cosine),
            labels[pair.first],
            labels[pair.second],
            _relation(pair.relation, same_source=pair.same_source),
        )
        for pair in shown
    ]
    if rows:
        output.table(columns, rows)
    else:
        output.message(f"no two reach a cosine of {compared.threshold:g}")
    if members is not None:
        output.line("")
        clusters = [(str(n), str(len(m)), _names(labels, m)) for n, m in enumerate(members, 1)]
        heads = (Column("cluster", right=True), Column("experts", right=True), Column("which"))
        output.table(heads, clusters)
    _tell_beside(len(compared.pairs), len(shown), compared.zero, odd)


def _tell_beside(found: int, shown: int, zero: Sequence[str], odd: Sequence[Refused]) -> None:
    """Tell what is no line of the table: how many more, what is zero, what cannot be compared."""
    if found > shown:
        output.message(f"{shown} of {found}; --top shows more")
    for label in zero:
        output.warning(f"{label} is zero: it is like nothing, and its cosine counts as 0")
    for one in odd:
        output.warning(f"{one.label} cannot be compared: {one.reason}")


def _relation(relation: str | None, *, same_source: bool) -> str:
    parts = [str(relation or ""), "made from the same weights" if same_source else ""]
    return ", ".join(part for part in parts if part)


def _cosine(value: float) -> str:
    return f"{value:.4f}"


def _names(labels: Sequence[str], members: Sequence[int]) -> str:
    return ", ".join(labels[number] for number in members)
