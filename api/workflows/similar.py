"""Say which experts are alike, wherever they are: nearest ones, duplicates, clusters.

Start at `nearest` and `compare_all`; `expert_library.py` reads what a hub holds of a base model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.remote.progress import SILENT, Progress, in_bytes
from compress.dtypes import Array
from merge.compressed import (
    Clusters,
    CompressedExpert,
    Pair,
    Relation,
    Space,
    all_cosines,
    cosines_to,
    find_clusters,
    find_pairs,
    read_expert,
)
from merge.compressed.comparable import Refused, comparable
from merge.compressed.duplicates import NEAR, check_threshold, relation_of, same_source
from merge.compressed.similarity import Told
from merge.errors import IncompatibleError


@dataclass(frozen=True, slots=True)
class SimilarOptions:
    """Say how to compare.

    Attributes:
        space: what is compared.
        threshold: the cosine from which two experts are near-duplicates, in (0, 1].
        cut: the mean cosine from which two clusters are one, in (0, 1].
    """

    space: Space = Space.DELTA
    threshold: float = NEAR
    cut: float = 0.5


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Describe one expert beside another.

    Attributes:
        label: how people call it.
        method: how it is compressed; `none` if it is not.
        cosine: of both ΔW.
        relation: how near it is, or None where it does not reach the threshold.
        same_source: whether both were made from the same weights.
    """

    label: str
    method: str
    cosine: float
    relation: Relation | None
    same_source: bool


@dataclass(frozen=True, slots=True)
class Nearest:
    """Hold the experts beside one.

    Attributes:
        label: how people call the one.
        neighbours: the nearest first.
        refused: who cannot be compared with it, and why.
        zero: labels of experts that are zero, whose cosine is 0 by definition.
    """

    label: str
    neighbours: tuple[Neighbour, ...]
    refused: tuple[Refused, ...]
    zero: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold a library compared all with all.

    Attributes:
        experts: those that were compared.
        cosines: float64 [experts, experts].
        threshold: the cosine of near-duplicates.
        pairs: those that reach it, the nearest first.
        clusters: which experts belong together, or None where nobody asked.
        refused: who cannot be compared with the others, and why.
        zero: labels of experts that are zero, whose cosine is 0 by definition.
    """

    experts: tuple[CompressedExpert, ...]
    cosines: Array
    threshold: float
    pairs: tuple[Pair, ...]
    clusters: Clusters | None
    refused: tuple[Refused, ...]
    zero: tuple[str, ...]


def nearest(
    expert: CompressedExpert,
    others: Sequence[CompressedExpert],
    *,
    options: SimilarOptions | None = None,
    progress: Progress = SILENT,
) -> Nearest:
    """Rank experts by how near they are to one.

    Raises:
        IncompatibleError: the expert itself has nothing to compare in this space.
        MergeOptionError: the threshold is out of its range.
    """
    chosen = options or SimilarOptions()
    check_threshold(chosen.threshold)
    kept, refused = comparable([expert, *others], space=chosen.space)
    if not kept or kept[0] is not expert:
        raise IncompatibleError(
            f"{expert.label} has nothing to compare: {refused[0].reason}",
            file=expert.label,
            field="space",
            expected="factors",
            actual=expert.method,
            hint="compare ΔW instead",
        )
    with _steps(progress, kept) as told:
        cosines = cosines_to(expert, kept, space=chosen.space, progress=told)
    content = expert.content()
    found = []
    for other, cosine in zip(kept[1:], cosines[1:].tolist(), strict=True):
        relation = None
        if cosine >= chosen.threshold:
            relation = relation_of(cosine, identical=other.content() == content)
        found.append(
            Neighbour(other.label, other.method, cosine, relation, same_source(expert, other))
        )
    found.sort(key=lambda neighbour: (-neighbour.cosine, neighbour.label))
    return Nearest(expert.label, tuple(found), tuple(refused), _zero(kept))


def compare_all(
    experts: Sequence[CompressedExpert],
    *,
    options: SimilarOptions | None = None,
    clusters: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare a library all with all.

    Args:
        experts: of one base model; who does not fit the first is left out.
        options: how to compare.
        clusters: also gather those that are alike.
        progress: who is told.

    Raises:
        MergeOptionError: an option is out of its range, or a package is not installed.
    """
    chosen = options or SimilarOptions()
    check_threshold(chosen.threshold)
    kept, refused = comparable(experts, space=chosen.space)
    with _steps(progress, kept) as told:
        cosines = all_cosines(kept, space=chosen.space, progress=told)
    return Comparison(
        experts=tuple(kept),
        cosines=cosines,
        threshold=chosen.threshold,
        pairs=tuple(find_pairs(kept, cosines, threshold=chosen.threshold)),
        clusters=find_clusters(cosines, least=chosen.cut) if clusters else None,
        refused=tuple(refused),
        zero=_zero(kept),
    )


def read_all(sources: Iterable[tuple[str, Path]]) -> tuple[list[CompressedExpert], list[Refused]]:
    """Read experts from local paths, each with its label.

    Returns:
        the experts, and which are no plain LoRA, and why.

    Raises:
        CompressError: one is damaged, or no adapter at all.
    """
    experts: list[CompressedExpert] = []
    refused: list[Refused] = []
    for label, path in sources:
        try:
            experts.append(read_expert(path, label=label))
        except IncompatibleError as error:
            refused.append(Refused(label, error.message))
    return experts, refused


@contextmanager
def _steps(progress: Progress, experts: Sequence[CompressedExpert]) -> Iterator[Told]:
    """Turn modules done of modules in all into bytes done of those that experts take."""
    total = sum(expert.size_bytes for expert in experts)
    with progress.task("comparing", total) as advance:
        yield in_bytes(advance, total)


def _zero(experts: Sequence[CompressedExpert]) -> tuple[str, ...]:
    return tuple(expert.label for expert in experts if expert.is_zero())
