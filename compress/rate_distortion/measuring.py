"""Compare what a file with layers decodes to with what it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.backend import decode_layers
from compress.container_read import TernFile
from compress.dtypes import Array, bit_view, widen
from compress.job import Job, Measured
from compress.lora import LoraModule
from compress.measure import Energies, delta_energies, vector_energies
from compress.reports import ModuleReport
from compress.tally import as_factors, module_report, tensor_report


def measure(
    job: Job, modules: Sequence[LoraModule], tern: TernFile, *, layers: int | None = None
) -> Measured:
    """Decode a file, with so many of its layers, and measure every module.

    Args:
        job: what the file was made from.
        modules: the LoRA modules whose factors it describes.
        tern: the file.
        layers: how many of its layers to use; None means all.
    """
    parts = job.vector.by_name
    by_factor = {name: module for module in modules for name in (module.a, module.b)}
    held: dict[str, Array] = {}
    counts: dict[str, int] = {}
    rows: dict[str, ModuleReport] = {}
    delta = vector = None
    nonzero = 0
    for tensor, values in decode_layers(tern, job.backend, layers=layers):
        name = tensor.info.name
        count = _nonzero(values)
        counts[name] = count
        nonzero += count
        if name not in by_factor:
            original = job.vector.read(parts[name])
            said = widen(values) - values.dtype.type(int(tensor.initial))
            found = vector_energies(original, said)
            vector = found if vector is None else vector + found
            rows[name] = tensor_report(name, len(values), count, found)
            continue
        held[name] = values
        module = by_factor[name]
        if {module.a, module.b} <= set(held):
            decoded = held.pop(module.a), held.pop(module.b)
            energies = _compare(job, module, decoded)
            delta = energies if delta is None else delta + energies
            sizes = {module.a: decoded[0].size, module.b: decoded[1].size}
            rows[module.name] = module_report(module, sizes, counts, energies)
    ordered = tuple(rows[name] for name in sorted(rows))
    return Measured(ordered, delta, vector, nonzero)


def _nonzero(values: Array) -> int:
    """Count what is not zero, of either sign; whole words are faster than small floats."""
    bits = bit_view(values)
    return int(np.count_nonzero(bits << bits.dtype.type(1)))


def _compare(job: Job, module: LoraModule, decoded: tuple[Array, Array]) -> Energies:
    parts = job.vector.by_name
    a, b = job.vector.read(parts[module.a]), job.vector.read(parts[module.b])
    trimmed = _with_rank(module, decoded[0], a)
    return delta_energies(
        as_factors(module, a, b, None),
        as_factors(trimmed, widen(decoded[0]), widen(decoded[1]), None),
    )


def _with_rank(module: LoraModule, decoded: Array, original: Array) -> LoraModule:
    """Give the module the rank that its factors were trimmed to; their scale stays."""
    rank = module.rank * len(decoded) // len(original)
    return LoraModule(module.name, module.a, module.b, rank, module.scale)
