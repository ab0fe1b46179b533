"""Compress an adapter, or a fully fine-tuned model against its base, into a `.tern` file."""

from __future__ import annotations

from pathlib import Path

from compress import compeft_file, lossless_file
from compress.adapter import CONFIG_NAME, open_adapter
from compress.backend import choose
from compress.compeft import Compeft, Progress
from compress.errors import OptionError
from compress.job import Job, Method
from compress.lossless import Lossless
from compress.places import FOLDER_SUFFIX, LONE_SUFFIX, copy_files, new_file, new_folder
from compress.rate_distortion import trials
from compress.rate_distortion.method import Rd
from compress.reports import CompressionReport
from compress.residual import open_differences, open_residual
from compress.result import Written, report
from compress.task_vector import TaskVector, find_parts, reason

_RESIDUAL = "fine-tuned minus base"


def compress_adapter(
    source: Path,
    destination: Path,
    *,
    method: Method | None = None,
    differences: bool = False,
    progress: Progress | None = None,
    device: str = "cpu",
) -> CompressionReport:
    """Compress a PEFT folder or a single safetensors file of LoRA weights or of a sparse delta.

    Args:
        source: the folder, or the file.
        destination: ``FILE.tern`` for one file with everything in it, or a new folder, in which the
            weights are compressed and every other file is copied as it is.
        method: what to do; by default `Rd()`, or `Compeft()` for differences.
        differences: every tensor is fine-tuned minus base already: the residual of a full
            fine-tune, which carries no mark of its own.
        progress: called with elements done and elements in all.
        device: who decodes what is measured and finds the threshold of compeft: "cpu", or "cuda"
            with or without a number. The file is the same, byte for byte.

    Returns:
        sizes, errors per module, and what was erased or kept.

    Raises:
        SourceError: the source is not valid; see its subclasses.
        OptionError: the method does not fit the source, or the device is absent.
        DestinationError: the destination is a folder that exists, or cannot be written.
    """
    method = method or (Compeft() if differences else Rd())
    backend = choose(device)
    if differences:
        _require_compeft(method, "differences from a base model")
        with open_differences(source) as (model, residual):
            job = Job(model, residual, method, _RESIDUAL, backend=backend)
            return _compress(job, destination, progress=progress)
    with open_adapter(source) as opened:
        tensors = opened.weights.tensors.values()
        vector = TaskVector(opened.weights, find_parts(tensors, opened.settings))
        why = reason(opened.settings, tensors)
        job = Job(opened, vector, method, why, backend=backend)
        return _compress(job, destination, progress=progress)


def compress_residual(
    model: Path,
    base: Path,
    destination: Path,
    *,
    method: Method | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> CompressionReport:
    """Compress a fully fine-tuned model as its difference from its base.

    Memory stays bounded however large the model is: tensors are read in slices, several times.

    Args:
        model: a safetensors file, or a folder with one or with shards and their index.
        base: likewise, the model that it was trained from; needed again to decompress.
        destination: ``FILE.tern`` or a new folder.
        method: what to do; by default `Compeft()`, which alone reads a model in slices.
        progress: called with elements done and elements in all.
        device: who finds the threshold, of vectors that fit it; see `compress_adapter`.

    Returns:
        sizes, errors per tensor, and what was kept.

    Raises:
        BaseMismatchError: no tensor of the model has the name and shape of one of the base.
        SourceError: a file is not valid.
        OptionError: the method does not fit, or the device is absent.
        DestinationError: the destination is a folder that exists, or cannot be written.
    """
    method = method or Compeft()
    _require_compeft(method, "a fully fine-tuned model")
    backend = choose(device)
    with open_residual(model, base) as (opened, vector, base_weights):
        job = Job(opened, vector, method, _RESIDUAL, base_weights.sha256(), backend)
        return _compress(job, destination, progress=progress)


def _require_compeft(method: Method, what: str) -> None:
    if not isinstance(method, Compeft):
        raise OptionError(
            f"this method does not compress {what}: there are no factors to take apart",
            field="method",
            expected="compeft",
            actual=type(method).__name__.lower(),
            hint="choose compeft",
        )


def _compress(job: Job, destination: Path, *, progress: Progress | None) -> CompressionReport:
    job.vector.watch(progress, passes=3)
    if destination.name.endswith(LONE_SUFFIX):
        with new_file(destination) as path:
            written = _write(job, path)
    else:
        stem = job.source.weights_name.removesuffix(".safetensors")
        with new_folder(destination) as folder:
            written = _write(job, folder / f"{stem}{FOLDER_SUFFIX}")
            if job.source.config:
                (folder / CONFIG_NAME).write_bytes(written.config or job.source.config)
            copy_files(job.source.companions, folder)
    job.vector.finish()
    return report(job, written)


def _write(job: Job, path: Path) -> Written:
    if isinstance(job.method, Compeft):
        return compeft_file.write(job, job.method, path)
    if isinstance(job.method, Lossless):
        return lossless_file.write(job, path)
    return trials.write(job, job.method, path)
