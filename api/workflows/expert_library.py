"""Read all experts of a base model from a hub, compressed ones as they are compressed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from api.client import HubClient
from api.remote.progress import SILENT, Progress
from api.schemas import AdapterBody, RevisionBody
from api.workflows.pull import fetch_all
from compress.errors import CompressError
from merge.compressed import CompressedExpert, read_expert
from merge.compressed.comparable import Refused
from merge.errors import IncompatibleError
from registry.digest import Digest
from registry.refs import DEFAULT_BRANCH, AdapterName, Reference
from registry.validation.adapter_files import CONFIG_FILE

_WEIGHTS = (".safetensors", ".tern")


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


def hub_expert(
    client: HubClient, reference: Reference, *, cache_dir: Path, label: str = ""
) -> tuple[CompressedExpert, RevisionBody]:
    """Read one expert of a hub, as it is compressed.

    Raises:
        HubError: there is no such revision.
        IncompatibleError: it is no plain LoRA.
        TernError: it is compressed and damaged.
    """
    revision = client.resolve(reference)
    with tempfile.TemporaryDirectory(prefix="adapters-") as work:
        folder = Path(work) / reference.adapter.name
        fetch_all(client, _what_counts(revision), folder, cache_dir=cache_dir)
        return read_expert(folder, label=label or str(reference.adapter)), revision


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
    try:
        return hub_expert(client, Reference(name, digest=digest), cache_dir=cache_dir)[0]
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
