"""Merge adapters, wherever they are, and publish the result with its lineage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from api.client import HubClient
from api.remote.errors import HubError
from api.remote.progress import SILENT, Progress, in_bytes
from api.workflows.compress import Origin, weight_bytes
from api.workflows.push import PushedRevision, PushOptions, push
from compress.adapter import CONFIG_NAME
from compress.container_read import TernFile
from compress.decode import decompress
from compress.opened import is_tern
from compress.places import find_tern
from compress.tern_weights import is_ternary_lora
from merge import MergedModule, MergeReport, Recipe, WeightedAdapter, merge_adapters
from registry.base_names import base_key_if_named
from registry.digest import Digest
from registry.manifest import LineageEdge, Operation
from registry.refs import AdapterName, Reference


@dataclass(frozen=True, slots=True)
class MergeInput:
    """Be one input of a merge.

    Attributes:
        origin: where it lies, and the revision that it holds, if it holds one.
        weight: its weight, or None for the method's usual one.
    """

    origin: Origin
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Hold a merge that is done.

    Attributes:
        recipe: how it was made.
        report: what came of it.
    """

    recipe: Recipe
    report: MergeReport


@contextmanager
def opened(
    inputs: Sequence[MergeInput], client: HubClient | None = None
) -> Iterator[list[WeightedAdapter]]:
    """Give adapters as a merge takes them, each with its base model.

    Args:
        inputs: adapters and weights.
        client: a hub that may know two names to be one base model.

    Raises:
        TernError: a compressed one is damaged.
    """
    bases = base_names([item.origin for item in inputs], client)
    with ExitStack() as stack:
        yield [
            WeightedAdapter(stack.enter_context(_decoded(item.origin.path)), item.weight, base)
            for item, base in zip(inputs, bases, strict=True)
        ]


def combine(
    adapters: Sequence[WeightedAdapter],
    destination: Path,
    recipe: Recipe,
    *,
    progress: Progress = SILENT,
    observe: Callable[[MergedModule], None] | None = None,
) -> MergeReport:
    """Merge adapters into a local folder.

    Args:
        adapters: opened ones.
        destination: a new or empty folder.
        recipe: how.
        progress: who is told.
        observe: is shown every module.

    Raises:
        MergeError: the recipe or the adapters do not fit.
        CompressError: an input or the destination is not acceptable.
    """
    size_bytes = sum(weight_bytes(item.path) for item in adapters)
    with progress.task("merging", size_bytes) as advance:
        told = in_bytes(advance, size_bytes)
        return merge_adapters(adapters, destination, recipe, progress=told, observe=observe)


def publish(
    client: HubClient,
    folder: Path,
    target: Reference,
    *,
    origins: Sequence[Origin],
    made: Made,
    message: str = "",
) -> PushedRevision:
    """Push a merged folder with an edge for each input that is a revision.

    Args:
        client: the hub.
        folder: what `combine` wrote.
        target: adapter and branch.
        origins: what it was made from.
        made: how, and what came of it.
        message: what to note on the revision.

    Raises:
        HubError: the hub refuses the result.
    """
    parameters = replace(made.recipe, heads=made.report.heads).to_parameters()
    edges = tuple(
        LineageEdge(
            Operation.MERGED_FROM,
            AdapterName.parse(origin.revision.manifest.adapter),
            Digest.parse(origin.revision.digest),
            weight,
            parameters,
        )
        for origin, weight in zip(origins, made.report.weights, strict=True)
        if origin.revision is not None
    )
    return push(client, folder, target, options=PushOptions(message=message, lineage=edges))


def base_names(origins: Sequence[Origin], client: HubClient | None) -> list[str | None]:
    """Say what each adapter's base model is known as: by the hub, if it can be asked, or itself.

    The hub is asked only where the spellings differ.
    """
    names = [_base_of(origin) for origin in origins]
    keys = {base_key_if_named(name) for name in names} - {None}
    if client is None or len(keys) < 2:
        return names
    return [_on_hub(client, name) if name else name for name in names]


def chain(client: HubClient, reference: Reference, count: int) -> list[Reference]:
    """List the last revisions of a branch, oldest first, for an average over them.

    Raises:
        HubError: there is no such branch.
    """
    found = list(client.log(reference, limit=count))
    return [
        Reference(reference.adapter, digest=Digest.parse(revision.digest))
        for revision in reversed(found)
    ]


def _base_of(origin: Origin) -> str | None:
    if origin.revision is not None:
        return origin.revision.manifest.base_model
    try:
        told = json.loads(_config(origin.path))
    except (OSError, ValueError):
        return None
    name = told.get("base_model_name_or_path") if isinstance(told, dict) else None
    return name if isinstance(name, str) else None


def _config(path: Path) -> bytes:
    if is_tern(path):
        with TernFile(find_tern(path)) as tern:
            return tern.index.config or b"{}"
    return (path / CONFIG_NAME).read_bytes()


def _on_hub(client: HubClient, name: str) -> str:
    try:
        return client.base_model(name).name
    except HubError as error:
        if error.status == 404:
            return name
        raise


@contextmanager
def _decoded(path: Path) -> Iterator[Path]:
    """Give what a merge reads: a `.tern` is decoded, unless its bit masks will do."""
    if not is_tern(path) or is_ternary_lora(path):
        yield path
        return
    tern = find_tern(path)
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        folder = Path(name) / (path.stem if path.is_file() else path.name)
        decompress(tern, folder)
        yield folder
