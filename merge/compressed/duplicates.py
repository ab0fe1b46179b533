"""Find experts that are the same, or nearly: pairs whose ΔW points the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from compress.dtypes import Array
from merge.compressed.experts import CompressedExpert
from merge.errors import MergeOptionError

#: Cosine from which two experts are called duplicates, and by default near-duplicates.
DUPLICATE, NEAR = 0.9999, 0.95


class Relation(StrEnum):
    """Say how near two experts are.

    `identical` have the same content; `duplicate` a cosine of 0.9999 or more, so that one is at
    most the other one scaled; `near` one of at least the threshold.
    """

    IDENTICAL = "identical"
    DUPLICATE = "duplicate"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class Pair:
    """Name two experts that are alike.

    Attributes:
        first: position of one.
        second: position of the other, the larger one.
        cosine: of their ΔW.
        relation: how near they are.
        same_source: whether both were compressed from the same weights, or are those weights.
    """

    first: int
    second: int
    cosine: float
    relation: Relation
    same_source: bool


def find_pairs(
    experts: Sequence[CompressedExpert], cosines: Array, *, threshold: float = NEAR
) -> list[Pair]:
    """List pairs whose cosine reaches a threshold, the nearest first.

    Args:
        experts: as many as the matrix has rows.
        cosines: float64 [experts, experts].
        threshold: in (0, 1].

    Raises:
        MergeOptionError: the threshold is out of its range.
    """
    check_threshold(threshold)
    contents = [expert.content() for expert in experts]
    found = []
    for first, second in np.argwhere(np.triu(cosines >= threshold, 1)).tolist():
        one, two = experts[first], experts[second]
        relation = relation_of(
            float(cosines[first, second]), identical=contents[first] == contents[second]
        )
        found.append(
            Pair(first, second, float(cosines[first, second]), relation, same_source(one, two))
        )
    return sorted(found, key=lambda pair: (-pair.cosine, pair.first, pair.second))


def relation_of(cosine: float, *, identical: bool) -> Relation:
    """Name how near two experts of at least the threshold are."""
    if identical:
        return Relation.IDENTICAL
    return Relation.DUPLICATE if cosine >= DUPLICATE else Relation.NEAR


def same_source(one: CompressedExpert, two: CompressedExpert) -> bool:
    """Say whether two experts were made from the same weights."""
    return bool(one.source) and one.source == two.source


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that no cosine above zero reaches, or all do.

    Raises:
        MergeOptionError: it is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise MergeOptionError(
            "the threshold is no cosine",
            field="threshold",
            expected="above 0, at most 1",
            actual=str(threshold),
        )
