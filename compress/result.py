"""Hold what writing a `.tern` file gave, and make the report of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from compress import container, dictionary
from compress.container import EXACT, HEADS
from compress.job import Job, Measured
from compress.lora import LoraModule, find_modules, unread_patterns
from compress.measure import Factors
from compress.reports import (
    CompressionReport,
    GroupReport,
    HeadReport,
    LayerReport,
    PartBytes,
    bounded_bits,
)
from compress.tally import as_factors
from compress.task_vector import Part
from compress.water_filling import Spectrum, error_bound, spectrum


@dataclass(frozen=True, slots=True)
class Written:
    """Hold what came of a file.

    Attributes:
        method: its name.
        settings: its options and what was decided, as the metadata tells them.
        measured: errors by module.
        sizes: bytes of every part, the header among them.
        shannon_bytes: entropy of the file's own symbols.
        groups: scales of `compeft`.
        layers: what each layer of `rd` adds.
        heads: tensors that were rounded to few bits.
        warnings: what else the person should know.
        config: the config that the result has, where that is not the one that came.
    """

    method: str
    settings: Mapping[str, str]
    measured: Measured
    sizes: Mapping[str, int]
    shannon_bytes: float
    groups: tuple[GroupReport, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    heads: tuple[HeadReport, ...] = ()
    warnings: tuple[str, ...] = ()
    config: bytes = b""


def report(job: Job, written: Written) -> CompressionReport:
    """Make the report of a file that was written."""
    parts = job.vector.parts
    measured = written.measured
    delta, vector = measured.delta, measured.vector
    exact, heads = written.sizes[EXACT], written.sizes.get(HEADS, 0)
    config_bytes = len(dictionary.deflate(job.source.config)) if job.source.config else 0
    size = PartBytes(sum(written.sizes.values()) - exact - heads, exact, config_bytes, heads)
    rounded = {head.name for head in written.heads}
    described = set() if written.method == container.LOSSLESS else set(job.names)
    return CompressionReport(
        method=written.method,
        settings=dict(written.settings),
        peft_type=job.source.settings.peft_type,
        treatment=job.treatment,
        baseline_dtype="+".join(sorted({part.info.dtype for part in parts})),
        parameters=job.vector.size,
        nonzero=measured.nonzero,
        exact_tensors=tuple(
            name for name in job.source.weights.tensors if name not in described | rounded
        ),
        source_bytes=job.source.weights.size_bytes,
        lossy_source_bytes=sum(part.info.size_bytes for part in parts),
        size=size,
        shannon_bytes=written.shannon_bytes,
        error_bound=_bound(job, size, measured.spectrum)
        if written.method != container.LOSSLESS
        else None,
        delta_error=None if delta is None else delta.error,
        delta_cosine=None if delta is None else delta.cosine,
        vector_error=None if vector is None else vector.error,
        groups=written.groups,
        layers=written.layers,
        heads=written.heads,
        modules=measured.rows,
        erased=measured.erased,
        warnings=_warnings(job, written),
    )


def _bound(job: Job, size: PartBytes, known: Spectrum | None) -> float | None:
    """Give the water-filling bound at the file's rate, where all that is compressed is LoRA."""
    if known is not None:
        rate = bounded_bits(size.lossy, known.parameters)
        return error_bound(known, rate) if rate else None
    weights, parts = job.source.weights, job.vector.by_name
    modules = [m for m in find_modules(weights, job.source.settings) if {m.a, m.b} <= set(parts)]
    parameters = sum(parts[name].info.size for m in modules for name in (m.a, m.b))
    bits = bounded_bits(size.lossy, parameters)
    if parameters != job.vector.size or not bits:
        return None
    return error_bound(spectrum(_factors(job, parts, modules)), bits)


def _factors(
    job: Job, parts: Mapping[str, Part], modules: Iterable[LoraModule]
) -> Iterator[Factors]:
    """Read the factors of one module after another."""
    for module in modules:
        a, b = job.vector.read(parts[module.a]), job.vector.read(parts[module.b])
        middle = job.source.weights.read(module.middle) if module.middle else None
        yield as_factors(module, a, b, middle)


def _warnings(job: Job, written: Written) -> tuple[str, ...]:
    measured = written.measured
    found = [*job.source.warnings, *written.warnings]
    if not job.vector.parts and written.method != container.LOSSLESS:
        found.append(f"nothing has a task vector, everything is kept exactly: {job.treatment}")
    untrained = [row.name for row in measured.rows if row.norm == 0]
    if untrained:
        found.append(
            f"zero factor: {len(untrained)} modules had no effect before, such as {untrained[0]}"
        )
    if measured.erased:
        found.append(
            f"erased: {len(measured.erased)} of {len(measured.rows)} modules are lost, such as "
            f"{measured.erased[0]}: dropping them would do as well; {_REMEDY[written.method]}"
        )
    found += [
        f"alpha_pattern {key!r} is not understood and was left out of the measured error"
        for key in unread_patterns(job.source.settings)
    ]
    return tuple(found)


_REMEDY = {
    container.COMPEFT: "a higher density, another alpha or the scope factor or tensor keeps more",
    container.RD: "more bits keep more, and no module goes unless dropping or a gain is asked for",
    container.LOSSLESS: "",
}
