"""Merge in this process: fetch what is on the hub, merge, and put the result where it belongs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from api.cli.compress import origin_of
from api.cli.merge_report import Outcome, searched
from api.cli.search_options import Search
from api.cli.session import Session
from api.cli.sources import local_path
from api.client import HubClient
from api.workflows.merge import Made, MergeInput, combine, opened, publish
from compress.places import require_free
from merge import HeadPolicy, Recipe, WeightedAdapter
from merge.conflict_report import ConflictLog
from registry.refs import Reference


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what is to be merged, and how.

    Attributes:
        sources: paths and references.
        weights: one for each, or None everywhere.
        recipe: how.
        search: by what the weights are searched, or None.
        conflicts: also find out where the adapters disagree.
    """

    sources: Sequence[str]
    weights: Sequence[float | None]
    recipe: Recipe
    search: Search | None
    conflicts: bool


def merge_here(
    session: Session, wanted: Wanted, target: Path | Reference, *, message: str
) -> Outcome:
    """Merge into a folder or publish on the hub.

    Args:
        session: the common options.
        wanted: what is to be merged.
        target: a new folder, or adapter and branch.
        message: what to note on a published revision.

    Raises:
        DestinationError: the folder is taken.
        MergeError: the adapters or the recipe do not fit.
        HubError: the hub refuses an input or the result.
    """
    recipe = wanted.recipe
    if isinstance(target, Path):
        require_free(target)
    with ExitStack() as stack:
        origins = [stack.enter_context(origin_of(session, text)) for text in wanted.sources]
        client = _client(stack, session, wanted.sources, target)
        pairs = zip(origins, wanted.weights, strict=True)
        inputs = [MergeInput(origin, weight) for origin, weight in pairs]
        adapters = stack.enter_context(opened(inputs, client))
        found = None
        if wanted.search is not None:
            if recipe.heads is HeadPolicy.AUTO:
                recipe = replace(recipe, heads=HeadPolicy.FIRST)  # the rows are of one task
            found = searched(adapters, recipe, wanted.search)
            adapters = _weighted(adapters, found.weights)
        log = ConflictLog(wanted.sources) if wanted.conflicts else None
        folder = target if isinstance(target, Path) else Path(_temporary(stack)) / "merged"
        observe = log.observe if log is not None else None
        report = combine(adapters, folder, recipe, progress=session.progress(), observe=observe)
        conflicts = log.report() if log is not None else None
        outcome = Outcome(report, str(folder), search=found, conflicts=conflicts)
        if isinstance(target, Path) or client is None:
            return outcome
        made = Made(recipe, report)
        pushed = publish(client, folder, target, origins=origins, made=made, message=message)
        digest = pushed.revision.digest
        return replace(outcome, place=f"{target.adapter}@{digest}", digest=digest)


def _client(
    stack: ExitStack, session: Session, sources: Sequence[str], target: Path | Reference
) -> HubClient | None:
    """Return a client of the hub if it has part in this."""
    here = all(local_path(source) is not None for source in sources)
    if isinstance(target, Path) and here:
        return None
    return stack.enter_context(session.client())


def _temporary(stack: ExitStack) -> str:
    return stack.enter_context(tempfile.TemporaryDirectory(prefix="adapters-"))


def _weighted(
    adapters: Sequence[WeightedAdapter], weights: Sequence[float]
) -> list[WeightedAdapter]:
    return [replace(item, weight=weight) for item, weight in zip(adapters, weights, strict=True)]
