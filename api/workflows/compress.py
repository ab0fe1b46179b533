"""Compress adapters and publish the result with its lineage."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from api.client import HubClient
from api.remote.progress import SILENT, Progress, in_bytes
from api.schemas import RevisionBody
from api.workflows.pull import PullOptions, pull
from api.workflows.push import PushedRevision, PushOptions, push
from compress import (
    Compeft,
    CompressionReport,
    Lossless,
    Rd,
    compress_adapter,
    compress_residual,
)
from registry.digest import Digest
from registry.manifest import LineageEdge, Operation, Scalar
from registry.refs import AdapterName, Reference
from registry.validation.adapter_summary import Kind

LOSSLESS = "lossless"


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
        method: how; None takes the best one that the source allows.
        base: folder of the base model, if the source is a fully fine-tuned model.
        kind: what the source is, where it cannot say itself; a revision says it.
        device: who does what a GPU can do as well.
    """

    method: Compeft | Lossless | Rd | None = None
    base: Path | None = None
    kind: str | None = None
    device: str = "cpu"


def fetch_origin(
    client: HubClient,
    reference: Reference,
    folder: Path,
    *,
    cache_dir: Path,
    base: Path | None = None,
    progress: Progress = SILENT,
) -> Origin:
    """Pull a revision as an ordinary folder, to compute with it.

    Args:
        client: the hub.
        reference: which revision.
        folder: where it goes.
        cache_dir: where partial downloads wait.
        base: the base model, which decoding a full fine-tune's residual needs.
        progress: who is told.

    Raises:
        HubError: there is no such revision.
        TernError: it is compressed and damaged.
    """
    options = PullOptions(cache_dir=cache_dir, base=base)
    pulled = pull(client, reference, folder, options=options, progress=progress)
    return Origin(folder, pulled.revision)


def shrink(
    origin: Origin, destination: Path, *, options: CompressOptions, progress: Progress = SILENT
) -> CompressionReport:
    """Compress an adapter, or a model against its base, into a local file or folder.

    Raises:
        CompressError: the source, the method or the destination is not acceptable.
    """
    source = origin.path
    size_bytes = weight_bytes(source)
    with progress.task("compressing", size_bytes) as advance:
        counted = in_bytes(advance, size_bytes)
        if options.base is not None:
            return compress_residual(
                source,
                options.base,
                destination,
                method=options.method,
                progress=counted,
                device=options.device,
            )
        differences = _kind(origin, options) == Kind.FULL_RESIDUAL
        return compress_adapter(
            source,
            destination,
            method=options.method or (Compeft() if differences else Rd()),
            differences=differences,
            progress=counted,
            device=options.device,
        )


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
        place = _place(origin.path, folder)
        report = shrink(origin, place, options=options, progress=progress)
        pushed = push(
            client,
            folder,
            target,
            options=_compressed_options(origin, report, options, message),
            progress=progress,
        )
    return report, pushed


def _place(source: Path, folder: Path) -> Path:
    """Return where to compress to: a folder for a folder with all its files, a file for a file."""
    if source.is_dir():
        return folder
    folder.mkdir()
    return folder / f"{source.stem}.tern"


def _kind(origin: Origin, options: CompressOptions) -> str | None:
    return options.kind or (origin.revision.manifest.config.kind if origin.revision else None)


def _compressed_options(
    origin: Origin, report: CompressionReport, options: CompressOptions, message: str
) -> PushOptions:
    parameters = {"method": report.method, **_scalars(report.settings)}
    metrics = _metrics(report)
    revision, kind = origin.revision, _kind(origin, options)
    return PushOptions(
        base_model=revision.manifest.base_model if revision else None,
        message=message or describe(report),
        lineage=(_edge(Operation.COMPRESSED_FROM, revision, parameters),) if revision else (),
        metrics=metrics,
        kind=kind if kind in (Kind.FULL_RESIDUAL, Kind.FULL_MODEL) else None,
    )


def describe(report: CompressionReport) -> str:
    """Say in a few words how something was compressed."""
    told = report.settings
    if "density" in told:
        return f"{report.method} at density {told['density']}"
    if not report.bits_per_param or report.method == LOSSLESS:
        return report.method
    return f"{report.method} at {report.bits_per_param:.3g} bits per parameter"


def _scalars(settings: Mapping[str, str]) -> dict[str, Scalar]:
    """Read numbers and truths out of settings, which are texts."""
    truths = {"true": True, "false": False}
    found: dict[str, Scalar] = {}
    for key, text in settings.items():
        try:
            found[key] = truths[text] if text in truths else float(text)
        except ValueError:
            found[key] = text
    return found


def _metrics(report: CompressionReport) -> dict[str, float]:
    """Give the figures of a report that a revision carries."""
    lossy = report.method != LOSSLESS
    figures = {
        "bytes": float(report.size.total),
        "ratio": report.ratio,
        "bits_per_param": report.bits_per_param if lossy else None,
        "erased_modules": float(len(report.erased)),
        "error_bound": report.error_bound,
        "error_delta": report.delta_error,
        "error_vector": report.vector_error,
        "layers": float(len(report.layers)) if report.layers else None,
    }
    return {name: value for name, value in figures.items() if value is not None and isfinite(value)}


def _edge(
    operation: Operation,
    revision: RevisionBody,
    parameters: dict[str, Scalar],
) -> LineageEdge:
    return LineageEdge(
        operation,
        AdapterName.parse(revision.manifest.adapter),
        Digest.parse(revision.digest),
        parameters=parameters,
    )


def weight_bytes(source: Path) -> int:
    """Count the bytes of an adapter's weights: of a file, or of those in a folder."""
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.glob("*.safetensors"))
