"""Say which experts are alike in plain values, for programs: the same for commands and for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.workflows.similar import Comparison, Nearest
    from merge.compressed.comparable import Refused

_DIGITS = 7


def nearest_json(near: Nearest, refused: Sequence[Refused], *, top: int) -> dict[str, Any]:
    """Give the experts beside one.

    Args:
        near: what was found.
        refused: who could not even be read, and why.
        top: so many of the nearest.
    """
    return {
        "reference": near.label,
        "neighbours": [
            {
                "label": one.label,
                "cosine": round(one.cosine, _DIGITS),
                "relation": one.relation.value if one.relation else None,
                "same_source": one.same_source,
                "method": one.method,
            }
            for one in near.neighbours[:top]
        ],
        "compared": len(near.neighbours),
        "zero": list(near.zero),
        "incomparable": _refused((*refused, *near.refused)),
    }


def comparison_json(
    compared: Comparison, refused: Sequence[Refused], *, top: int | None = None
) -> dict[str, Any]:
    """Give a library compared all with all.

    Args:
        compared: what was found.
        refused: who could not even be read, and why.
        top: so many of the nearest pairs, and no matrix; None gives all.
    """
    labels = [expert.label for expert in compared.experts]
    value: dict[str, Any] = {
        "experts": labels,
        "pairs": [
            {
                "first": labels[pair.first],
                "second": labels[pair.second],
                "cosine": round(pair.cosine, _DIGITS),
                "relation": pair.relation.value,
                "same_source": pair.same_source,
            }
            for pair in compared.pairs[:top]
        ],
        "zero": list(compared.zero),
        "incomparable": _refused((*refused, *compared.refused)),
    }
    if top is None:
        value["cosines"] = compared.cosines.round(_DIGITS).tolist()
    else:
        value["alike"] = len(compared.pairs)
    if compared.clusters is not None:
        groups = compared.clusters.members()
        value["clusters"] = [[labels[number] for number in group] for group in groups]
    return value


def _refused(odd: Sequence[Refused]) -> list[dict[str, str]]:
    return [{"label": one.label, "reason": one.reason} for one in odd]
