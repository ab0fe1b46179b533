"""Say which experts are alike, wherever they are: nearest ones, duplicates, clusters.

Compressed revisions are fetched and compared as they are compressed. Start at `nearest` and
`compare_all`; `hub_library` reads what a hub holds of one base model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.client import HubClient
from api.remote.progress import SILENT, Progress
from api.schemas import AdapterBody, RevisionBody
from api.workflows.pull import fetch_all
from compress.dtypes import Array
from compress.errors import CompressError
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
from registry.digest import Digest
from registry.refs import DEFAULT_BRANCH, AdapterName, Reference
from registry.validation.adapter_files import CONFIG_FILE

_WEIGHTS = (".safetensors", ".tern")


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
        neighbours: the nearest first.
        refused: who cannot be compared with it, and why.
        zero: labels of experts that are zero, whose cosine is 0 by definition.
    """

    neighbours: tuple[Neighbour, ...]
    refused: tuple[Refused, ...]
    zero: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold a library compared all with all.

    Attributes:
        experts: those that were compared.
        cosines: float64 [experts, experts].
        pairs: duplicates and near-duplicates, the nearest first.
        clusters: which experts belong together, or None where nobody asked.
        refused: who cannot be compared with the others, and why.
        zero: labels of experts that are zero, whose cosine is 0 by definition.
    """

    experts: tuple[CompressedExpert, ...]
    cosines: Array
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
    return Nearest(tuple(found), tuple(refused), _zero(kept))


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
        pairs=tuple(find_pairs(kept, cosines, threshold=chosen.threshold)),
        clusters=find_clusters(cosines, least=chosen.cut) if clusters else None,
        refused=tuple(refused),
        zero=_zero(kept),
    )


def hub_library(
    client: HubClient,
    base: str,
    *,
    cache_dir: Path,
    namespace: str | None = None,
    without: Digest | None = None,
    progress: Progress = SILENT,
) -> tuple[list[CompressedExpert], list[Refused]]:
    """Read all adapters of a base model that the caller may read, as their `main` is.

    Args:
        client: the hub.
        base: the base model, in any spelling.
        cache_dir: where partial downloads wait.
        namespace: only adapters of this one.
        without: a revision that is left out.
        progress: who is told.

    Returns:
        the experts by name, and which adapters cannot be compared, and why.

    Raises:
        HubError: the hub refuses.
    """
    adapters = list(client.adapters(base=base, namespace=namespace))
    experts: list[CompressedExpert] = []
    refused: list[Refused] = []
    with progress.task("reading experts", sum(a.size_bytes for a in adapters)) as advance:
        for adapter in adapters:
            found = _hub_expert(client, adapter, cache_dir, without)
            if isinstance(found, Refused):
                refused.append(found)
            elif found is not None:
                experts.append(found)
            advance(adapter.size_bytes)
    return experts, refused


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


def _hub_expert(
    client: HubClient, adapter: AdapterBody, cache_dir: Path, without: Digest | None
) -> CompressedExpert | Refused | None:
    """Read one adapter; nothing if it is the revision that is left out."""
    name = AdapterName.parse(adapter.name)
    heads = {ref.name: ref.digest for ref in adapter.branches}
    if DEFAULT_BRANCH not in heads:
        return Refused(adapter.name, f"has no branch {DEFAULT_BRANCH}")
    digest = Digest.parse(heads[DEFAULT_BRANCH])
    if digest == without:
        return None
    revision = client.resolve(Reference(name, digest=digest))
    with tempfile.TemporaryDirectory(prefix="adapters-") as work:
        folder = Path(work) / name.name
        fetch_all(client, _what_counts(revision), folder, cache_dir=cache_dir)
        try:
            return read_expert(folder, label=adapter.name)
        except (IncompatibleError, CompressError) as error:
            return Refused(adapter.name, error.message)


def _what_counts(revision: RevisionBody) -> RevisionBody:
    """Leave out the files that say nothing about ΔW."""
    manifest = revision.manifest
    files = [
        file
        for file in manifest.files
        if "/" not in file.path and (file.path == CONFIG_FILE or file.path.endswith(_WEIGHTS))
    ]
    return revision.model_copy(update={"manifest": manifest.model_copy(update={"files": files})})


@contextmanager
def _steps(progress: Progress, experts: Sequence[CompressedExpert]) -> Iterator[Told]:
    """Turn modules done of modules in all into bytes done of those that experts take."""
    total = sum(expert.size_bytes for expert in experts)
    shown = 0
    with progress.task("comparing", total) as advance:

        def told(done: int, modules: int) -> None:
            nonlocal shown
            reached = total * done // modules
            advance(reached - shown)
            shown = reached

        yield told


def _zero(experts: Sequence[CompressedExpert]) -> tuple[str, ...]:
    return tuple(expert.label for expert in experts if expert.is_zero())
