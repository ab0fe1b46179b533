"""Compress an adapter, or a fully fine-tuned model against its base, into a `.tern` file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compress import container, dictionary
from compress.adapter import CONFIG_NAME, Source, open_adapter
from compress.compeft import Compeft, Group, Progress, Ternariser, decide
from compress.container import EXACT, Index, Stored, element_bytes, in_table_order
from compress.container_write import TernWriter
from compress.errors import OptionError
from compress.lora import FACTORS, LoraModule, find_modules, unread_patterns
from compress.measure import Energies, shannon_bits
from compress.places import FOLDER_SUFFIX, LONE_SUFFIX, copy_files, new_file, new_folder
from compress.reports import CompressionReport, GroupReport, ModuleReport, PartBytes
from compress.residual import open_differences, open_residual
from compress.tally import Tally, code, lora_energies, module_report, tensor_report
from compress.task_vector import TaskVector, find_parts, reason

_EXACT_CHUNK_BYTES = 4 << 20
_RESIDUAL = "fine-tuned minus base"


@dataclass(frozen=True, slots=True)
class _Job:
    """Hold what is compressed and how."""

    source: Source
    vector: TaskVector
    method: Compeft
    treatment: str
    base_sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Measured:
    """Hold what was found out while compressing."""

    rows: tuple[ModuleReport, ...]
    delta: Energies | None
    vector: Energies | None

    @property
    def erased(self) -> tuple[str, ...]:
        """Name the modules of which nothing is left."""
        return tuple(row.name for row in self.rows if row.erased)


def compress_adapter(
    source: Path,
    destination: Path,
    *,
    method: Compeft | None = None,
    differences: bool = False,
    progress: Progress | None = None,
) -> CompressionReport:
    """Compress a PEFT folder or a single safetensors file of LoRA weights or of a sparse delta.

    Args:
        source: the folder, or the file.
        destination: ``FILE.tern`` for one file with everything in it, or a new folder, in which the
            weights are compressed and every other file is copied as it is.
        method: what to do; by default `Compeft()`.
        differences: every tensor is fine-tuned minus base already: the residual of a full
            fine-tune, which carries no mark of its own.
        progress: called with elements done and elements in all.

    Returns:
        sizes, errors per module, and what was erased or kept.

    Raises:
        SourceError: the source is not valid; see its subclasses.
        OptionError: the method does not fit the source.
        DestinationError: the destination is taken.
    """
    method = method or Compeft()
    if differences:
        with open_differences(source) as (model, residual):
            job = _Job(model, residual, method, _RESIDUAL)
            return _compress(job, destination, progress=progress)
    with open_adapter(source) as opened:
        tensors = opened.weights.tensors.values()
        vector = TaskVector(opened.weights, find_parts(tensors, opened.settings))
        job = _Job(opened, vector, method, reason(opened.settings, tensors))
        return _compress(job, destination, progress=progress)


def compress_residual(
    model: Path,
    base: Path,
    destination: Path,
    *,
    method: Compeft | None = None,
    progress: Progress | None = None,
) -> CompressionReport:
    """Compress a fully fine-tuned model as its difference from its base.

    Memory stays bounded however large the model is: tensors are read in slices, several times.

    Args:
        model: a safetensors file, or a folder with one or with shards and their index.
        base: likewise, the model that it was trained from; needed again to decompress.
        destination: ``FILE.tern`` or a new folder.
        method: what to do; by default `Compeft()`.
        progress: called with elements done and elements in all.

    Returns:
        sizes, errors per tensor, and what was kept.

    Raises:
        BaseMismatchError: no tensor of the model has the name and shape of one of the base.
        SourceError: a file is not valid.
        DestinationError: the destination is taken.
    """
    with open_residual(model, base) as (opened, vector, base_weights):
        job = _Job(opened, vector, method or Compeft(), _RESIDUAL, base_weights.sha256())
        return _compress(job, destination, progress=progress)


def _compress(job: _Job, destination: Path, *, progress: Progress | None) -> CompressionReport:
    job.vector.watch(progress, passes=3)
    if destination.name.endswith(LONE_SUFFIX):
        with new_file(destination) as path:
            report = _write(job, path)
    else:
        stem = job.source.weights_name.removesuffix(".safetensors")
        with new_folder(destination) as folder:
            report = _write(job, folder / f"{stem}{FOLDER_SUFFIX}")
            if job.source.config:
                (folder / CONFIG_NAME).write_bytes(job.source.config)
            copy_files(job.source.companions, folder)
    job.vector.finish()
    return report


def _write(job: _Job, path: Path) -> CompressionReport:
    groups = decide(job.vector, job.method)
    ternariser = Ternariser(job.vector, groups)
    names = {part.info.name for part in job.vector.parts if part.role in FACTORS}
    found = find_modules(job.source.weights, job.source.settings)
    modules = [module for module in found if {module.a, module.b} <= names]
    lora = frozenset(name for module in modules for name in (module.a, module.b))
    tally = Tally()
    with TernWriter(path) as writer:
        writer.add_runs(code(job.vector, ternariser, tally, lora=lora))
        index = _index(job, groups)
        _require_finite(index, job)
        _copy_exact(job, index, writer)
        measured = _measure(job, ternariser, tally, modules=modules)
        sizes = writer.finish(index, _metadata(job, measured))
    config_bytes = len(dictionary.deflate(job.source.config)) if job.source.config else 0
    size = PartBytes(sum(sizes.values()) - sizes[EXACT], sizes[EXACT], config_bytes)
    return _report(job, measured, groups=groups, tally=tally, size=size)


def _index(job: _Job, groups: list[Group]) -> Index:
    group_of = {part.info.name: at for at, group in enumerate(groups) for part in group.parts}
    coded = {
        part.info.name: Stored(part.info, part.role, part.initial, group_of[part.info.name])
        for part in job.vector.parts
    }
    infos = job.source.weights.tensors.values()
    return Index(
        kind=job.source.kind,
        weights_name=job.source.weights_name,
        config=job.source.config,
        metadata=dict(job.source.weights.metadata),
        scales=tuple(group.scale for group in groups),
        tensors=in_table_order(coded.get(info.name, Stored(info)) for info in infos),
    )


def _require_finite(index: Index, job: _Job) -> None:
    if beyond := container.overflowing(index):
        raise OptionError(
            "the scale does not fit the type of a tensor",
            file=job.source.weights.file_of(beyond[0]),
            field=beyond[0],
            expected=f"a value that {job.source.weights.info(beyond[0]).dtype} can hold",
            actual=f"alpha {job.method.alpha:g} times the standard deviation",
            hint="choose a smaller alpha",
        )


def _copy_exact(job: _Job, index: Index, writer: TernWriter) -> None:
    for tensor in index.exact:
        info = tensor.info
        for start in range(0, info.size_bytes, _EXACT_CHUNK_BYTES):
            stop = min(start + _EXACT_CHUNK_BYTES, info.size_bytes)
            data = job.source.weights.read_bytes(info.name, start, stop)
            writer.exact.add(data, width=element_bytes(info))


def _measure(
    job: _Job, ternariser: Ternariser, tally: Tally, *, modules: Iterable[LoraModule]
) -> _Measured:
    sizes = {part.info.name: part.info.size for part in job.vector.parts}
    rows, delta = [], None
    for module in modules:
        energies = lora_energies(module, job.source.weights, job.vector, ternariser)
        delta = energies if delta is None else delta + energies
        rows.append(module_report(module, sizes, tally.nonzero, energies))
    vector = None
    for name, energies in sorted(tally.energies.items()):
        vector = energies if vector is None else vector + energies
        rows.append(tensor_report(name, sizes[name], tally.nonzero[name], energies))
    return _Measured(tuple(rows), delta, vector)


def _metadata(job: _Job, measured: _Measured) -> dict[str, str]:
    method = job.method
    fields = {
        "format": container.FORMAT,
        "version": container.VERSION,
        "method": "compeft",
        "density": f"{method.density:.12g}",
        "alpha": f"{method.alpha:.12g}",
        "scope": method.scope.value,
        "source_sha256": job.source.weights.sha256(),
    }
    if method.exact_count:
        fields["exact_count"] = "true"
    if job.base_sha256:
        fields["base_sha256"] = job.base_sha256
    if measured.delta is not None:
        fields["delta_error"] = f"{measured.delta.error:.4g}"
    if measured.vector is not None:
        fields["vector_error"] = f"{measured.vector.error:.4g}"
    if measured.erased:
        fields["erased"] = str(len(measured.erased))
    return fields


def _report(
    job: _Job, measured: _Measured, *, groups: list[Group], tally: Tally, size: PartBytes
) -> CompressionReport:
    parts = job.vector.parts
    names = {part.info.name for part in parts}
    delta, vector = measured.delta, measured.vector
    return CompressionReport(
        method="compeft",
        density=job.method.density,
        alpha=job.method.alpha,
        scope=job.method.scope.value,
        peft_type=job.source.settings.peft_type,
        treatment=job.treatment,
        baseline_dtype="+".join(sorted({part.info.dtype for part in parts})),
        parameters=job.vector.size,
        nonzero=sum(tally.nonzero.values()),
        exact_tensors=tuple(name for name in job.source.weights.tensors if name not in names),
        source_bytes=job.source.weights.size_bytes,
        lossy_source_bytes=sum(part.info.size_bytes for part in parts),
        size=size,
        shannon_bytes=shannon_bits(tally.counts(job.vector.size)) / 8,
        delta_error=None if delta is None else delta.error,
        delta_cosine=None if delta is None else delta.cosine,
        vector_error=None if vector is None else vector.error,
        groups=tuple(GroupReport(g.name, g.survey.count, g.kept, g.sigma, g.scale) for g in groups),
        modules=measured.rows,
        erased=measured.erased,
        warnings=_warnings(job, measured),
    )


def _warnings(job: _Job, measured: _Measured) -> tuple[str, ...]:
    found = list(job.source.warnings)
    if not job.vector.parts:
        found.append(f"nothing has a task vector, everything is kept exactly: {job.treatment}")
    untrained = [row.name for row in measured.rows if row.norm == 0]
    if untrained:
        found.append(
            f"zero factor: {len(untrained)} modules had no effect before, such as {untrained[0]}"
        )
    if measured.erased:
        found.append(
            f"erased: {len(measured.erased)} of {len(measured.rows)} modules are lost, such as "
            f"{measured.erased[0]}: dropping them would do as well; a higher density, another "
            "alpha or the scope factor or tensor keeps more"
        )
    found += [
        f"alpha_pattern {key!r} is not understood and was left out of the measured error"
        for key in unread_patterns(job.source.settings)
    ]
    return tuple(found)
