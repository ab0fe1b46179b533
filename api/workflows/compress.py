"""Compress or merge adapters and publish the result with its lineage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api.client import HubClient
from api.remote.progress import SILENT, Progress
from api.schemas import RevisionBody
from api.workflows.pull import PullOptions, pull
from api.workflows.push import PushedRevision, PushOptions, push
from compress import Compeft, CompressionReport, compress_adapter, compress_residual
from compress.adapter import CONFIG_NAME
from registry.digest import Digest
from registry.manifest import LineageEdge, Operation, Scalar
from registry.refs import AdapterName, Reference


@dataclass(frozen=True, slots=True)
class Origin:
    """Be one input: a local folder or file, and the revision that it holds, if it holds one.

    Attributes:
        path: where it lies, decoded.
        revision: what it was pulled from, or None if it was never on the hub.
    """

    path: Path
    revision: RevisionBody | None = None


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """Say how to compress.

    Attributes:
        method: density, alpha, scope.
        base: folder of the base model, if the source is a fully fine-tuned model.
    """

    method: Compeft = field(default_factory=Compeft)
    base: Path | None = None


def fetch_origin(
    client: HubClient,
    reference: Reference,
    folder: Path,
    *,
    cache_dir: Path,
    progress: Progress = SILENT,
) -> Origin:
    """Pull a revision as an ordinary folder, to compute with it.

    Raises:
        HubError: there is no such revision.
        TernError: it is compressed and damaged.
    """
    options = PullOptions(cache_dir=cache_dir)
    pulled = pull(client, reference, folder, options=options, progress=progress)
    return Origin(folder, pulled.revision)


def shrink(
    source: Path, destination: Path, *, options: CompressOptions, progress: Progress = SILENT
) -> CompressionReport:
    """Compress a local adapter, or a local model against its base, into a file or folder.

    Raises:
        CompressError: the source, the method or the destination is not acceptable.
    """
    size_bytes = _weight_bytes(source)
    with progress.task("compressing", size_bytes) as advance:
        counted = _counted(advance, size_bytes)
        if options.base is not None:
            return compress_residual(
                source, options.base, destination, method=options.method, progress=counted
            )
        return compress_adapter(source, destination, method=options.method, progress=counted)


def compress_and_push(
    client: HubClient,
    origin: Origin,
    target: Reference,
    *,
    options: CompressOptions,
    message: str = "",
    progress: Progress = SILENT,
) -> tuple[CompressionReport, PushedRevision]:
    """Compress an adapter and push the result with what it was made from and what it cost.

    Raises:
        CompressError: the source or the method is not acceptable.
        HubError: the hub refuses the result.
    """
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        folder = Path(name) / "out"
        report = shrink(
            origin.path, _shape_of(origin.path, folder), options=options, progress=progress
        )
        pushed = push(
            client,
            folder,
            target,
            options=_compressed_options(origin, report, options, message),
            progress=progress,
        )
    return report, pushed


def merge_and_push(
    client: HubClient,
    folder: Path,
    target: Reference,
    *,
    origins: Sequence[tuple[Origin, float]],
    parameters: dict[str, Scalar],
    message: str = "",
) -> PushedRevision:
    """Push a merged folder with an edge for each input that is a revision.

    Raises:
        HubError: the hub refuses the result.
    """
    edges = tuple(
        _edge(Operation.MERGED_FROM, origin.revision, parameters, weight=weight)
        for origin, weight in origins
        if origin.revision is not None
    )
    return push(client, folder, target, options=PushOptions(message=message, lineage=edges))


def _shape_of(source: Path, folder: Path) -> Path:
    """Return where to compress to: a folder where there is a config, else one file in a folder."""
    if source.is_dir() and (source / CONFIG_NAME).is_file():
        return folder
    folder.mkdir()
    return folder / f"{source.stem}.tern"


def _compressed_options(
    origin: Origin, report: CompressionReport, options: CompressOptions, message: str
) -> PushOptions:
    method = options.method
    parameters: dict[str, Scalar] = {
        "method": report.method,
        "density": method.density,
        "alpha": method.alpha,
        "scope": method.scope.value,
        "exact_count": method.exact_count,
    }
    metrics: dict[str, float] = {
        "bytes": float(report.size.total),
        "ratio": report.ratio,
        "bits_per_param": report.bits_per_param,
        "erased_modules": float(len(report.erased)),
    }
    if report.delta_error is not None:
        metrics["error_delta"] = report.delta_error
    revision = origin.revision
    return PushOptions(
        base_model=revision.manifest.base_model if revision else None,
        message=message or f"{report.method} at density {method.density:g}",
        lineage=(_edge(Operation.COMPRESSED_FROM, revision, parameters),) if revision else (),
        metrics=metrics,
    )


def _edge(
    operation: Operation,
    revision: RevisionBody,
    parameters: dict[str, Scalar],
    *,
    weight: float | None = None,
) -> LineageEdge:
    return LineageEdge(
        operation,
        AdapterName.parse(revision.manifest.adapter),
        Digest.parse(revision.digest),
        weight,
        parameters,
    )


def _counted(advance: Callable[[int], None], size_bytes: int) -> Callable[[int, int], None]:
    """Turn elements done of elements in all into bytes done of a known number."""
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        reached = size_bytes * done // max(1, total)
        advance(reached - shown)
        shown = reached

    return report


def _weight_bytes(source: Path) -> int:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.glob("*.safetensors"))
