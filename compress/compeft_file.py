"""Write the `.tern` file of the method `compeft`: groups with a scale, trits, and what is exact."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from compress import container
from compress.compeft import Compeft, Group, Ternariser, decide
from compress.container import Index, Stored, in_table_order
from compress.container_write import TernWriter
from compress.errors import OptionError
from compress.job import Job, Measured, copy_exact, metadata
from compress.lora import FACTORS, LoraModule, find_modules
from compress.measure import shannon_bits
from compress.reports import GroupReport
from compress.result import Written
from compress.tally import Tally, code, lora_energies, module_report, tensor_report
from compress.water_filling import joined


def write(job: Job, method: Compeft, path: Path) -> Written:
    """Compress the task vector of a job into a file.

    Raises:
        OptionError: a scale does not fit the type of a tensor.
    """
    groups = decide(job.vector, method, job.backend.survey_chunks)
    ternariser = Ternariser(job.vector, groups)
    names = {part.info.name for part in job.vector.parts if part.role in FACTORS}
    found = find_modules(job.source.weights, job.source.settings)
    modules = [module for module in found if {module.a, module.b} <= names]
    lora = frozenset(name for module in modules for name in (module.a, module.b))
    tally = Tally()
    settings = _settings(method)
    with TernWriter(path) as writer:
        writer.add_runs(code(job.vector, ternariser, tally, lora=lora))
        index = _index(job, groups)
        _require_finite(index, job, method)
        copy_exact(job, index.exact, writer)
        measured = _measure(job, ternariser, tally, modules=modules)
        sizes = writer.finish(index, metadata(job, container.COMPEFT, settings, measured))
    return Written(
        method=container.COMPEFT,
        settings=settings,
        measured=measured,
        sizes=sizes,
        shannon_bytes=shannon_bits(tally.counts(job.vector.size)) / 8,
        groups=tuple(GroupReport(g.name, g.survey.count, g.kept, g.sigma, g.scale) for g in groups),
    )


def _settings(method: Compeft) -> dict[str, str]:
    fields = {
        "density": f"{method.density:.12g}",
        "alpha": f"{method.alpha:.12g}",
        "scope": method.scope.value,
    }
    return fields | ({"exact_count": "true"} if method.exact_count else {})


def _index(job: Job, groups: list[Group]) -> Index:
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


def _require_finite(index: Index, job: Job, method: Compeft) -> None:
    if beyond := container.overflowing(index):
        raise OptionError(
            "the scale does not fit the type of a tensor",
            file=job.source.weights.file_of(beyond[0]),
            field=beyond[0],
            expected=f"a value that {job.source.weights.info(beyond[0]).dtype} can hold",
            actual=f"alpha {method.alpha:g} times the standard deviation",
            hint="choose a smaller alpha",
        )


def _measure(
    job: Job, ternariser: Ternariser, tally: Tally, *, modules: Iterable[LoraModule]
) -> Measured:
    sizes = {part.info.name: part.info.size for part in job.vector.parts}
    rows, spectra, delta = [], [], None
    for module in modules:
        energies, found = lora_energies(module, job.source.weights, job.vector, ternariser)
        spectra.append(found)
        delta = energies if delta is None else delta + energies
        rows.append(module_report(module, sizes, tally.nonzero, energies))
    vector = None
    for name, energies in sorted(tally.energies.items()):
        vector = energies if vector is None else vector + energies
        rows.append(tensor_report(name, sizes[name], tally.nonzero[name], energies))
    spectrum = joined(spectra) if spectra and vector is None else None
    return Measured(tuple(rows), delta, vector, sum(tally.nonzero.values()), spectrum)
