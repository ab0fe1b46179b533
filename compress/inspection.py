"""Look into an adapter or a `.tern` file: what it holds, and what is lost against an original."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from compress import container, dictionary, heads
from compress.adapter import SourceKind
from compress.container import EXACT, HEADS
from compress.container_read import DEFAULT_MAX_DECODED_BYTES, TernFile
from compress.dtypes import Array, widen
from compress.inspected import Inspected, RatePoint, bound_points
from compress.measure import Energies, shannon_bits, vector_energies
from compress.opened import Opened, as_other, is_tern, open_any
from compress.places import find_tern
from compress.reports import HeadReport, LayerReport, ModuleReport, PartBytes, bounded_bits
from compress.tally import module_report, tensor_report
from compress.task_vector import Part, find_parts, reason

__all__ = ["bound_curve", "inspect", "is_tern", "measured_layers"]

_NOT_COMPARED = (
    "a model's residual is not compared here: its error is the vector_error that it tells"
)


def inspect(
    source: Path,
    *,
    against: Path | None = None,
    max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
) -> Inspected:
    """Describe an adapter folder, a safetensors file of LoRA weights, or a `.tern` file or folder.

    Args:
        source: what to look at.
        against: the original to compare ΔW with; may itself be any of these.
        max_decoded_bytes: the most that a `.tern` file may decode to.

    Returns:
        sizes and bounds, one row per module, and which modules are lost.

    Raises:
        SourceError: an adapter is not valid.
        TernError: a `.tern` file is not valid.
    """
    if is_tern(source):
        with TernFile(find_tern(source), max_decoded_bytes=max_decoded_bytes) as tern:
            if tern.index.kind is SourceKind.MODEL:
                return _inspect_model(tern, compared=against is not None)
    with open_any(source, max_decoded_bytes=max_decoded_bytes) as opened:
        if against is None:
            return _inspect(opened, None)
        with open_any(against, max_decoded_bytes=max_decoded_bytes) as original:
            return _inspect(opened, as_other(original, opened))


def bound_curve(source: Path, rates: Sequence[float]) -> tuple[RatePoint, ...]:
    """Give the water-filling bound of an adapter at many rates; nothing if not all of it is LoRA.

    Args:
        source: the original, best not compressed itself.
        rates: bits per parameter, each above 0.

    Raises:
        SourceError: it is not valid.
        TernError: it is a `.tern` file and not valid.
    """
    with open_any(source) as opened:
        return bound_points(opened.all_factors(), rates)


def measured_layers(source: Path, against: Path) -> tuple[LayerReport, ...]:
    """Decode a `.tern` layer by layer and measure the error of ΔW that each leaves.

    Args:
        source: the file or its folder; one without layers gives nothing.
        against: the original.

    Raises:
        SourceError: the original is not valid.
        TernError: the file is not valid.
    """
    if not is_tern(source):
        return ()
    with TernFile(find_tern(source)) as tern:
        told = _layers(tern)
    measured = []
    with open_any(against) as original:
        for number, layer in enumerate(told, 1):
            with open_any(source, layers=number) as opened:
                _, delta = opened.compare(as_other(original, opened))
            if delta is not None:
                measured.append(LayerReport(layer.bytes, delta.error))
    return tuple(measured)


def _inspect(opened: Opened, original: Opened | None) -> Inspected:
    parts, tern, tensors = opened.parts, opened.tern, opened.source.weights.tensors
    nonzero = {
        name: int(np.count_nonzero(opened.vector.read(part))) for name, part in parts.items()
    }
    rows, delta, warnings = _rows(opened, original, nonzero)
    rounded = _heads(opened, original)
    beside = {*parts, *(head.name for head in rounded)}
    exact = [info for name, info in tensors.items() if name not in beside]
    compared = delta is not None and bool(delta.original) and original is not None
    kind = "lora-raw" if opened.source.kind is SourceKind.RAW else "peft"
    size = _sizes(opened)
    reference = original if original is not None else None if tern else opened
    factors = reference.all_factors() if reference is not None else None
    return Inspected(
        path=str(opened.path),
        encoding="tern" if tern else kind,
        peft_type=opened.source.settings.peft_type,
        treatment=_treatment(opened),
        size=size,
        parameters=opened.vector.size,
        exact_parameters=sum(info.size for info in exact),
        exact_tensors=tuple(info.name for info in exact),
        nonzero=sum(nonzero.values()),
        properties=dict(tern.metadata) if tern else {},
        delta_error=delta.error if delta is not None and compared else None,
        delta_cosine=delta.cosine if delta is not None and compared else None,
        modules=tuple(rows),
        erased=tuple(row.name for row in rows if row.erased),
        warnings=(*opened.source.warnings, *warnings),
        stored_dtype=_dtypes(part.info.dtype for part in parts.values()),
        stored_bytes=sum(part.info.size_bytes for part in parts.values()),
        source_bytes=opened.source.weights.size_bytes,
        part_bytes=tern.part_bytes if tern else {},
        shannon_bytes=_shannon_bytes(tern) if tern else None,
        error_bound=_bound_here(tern, original, size),
        bounds=bound_points(factors),
        layers=_layers(tern) if tern else (),
        heads=rounded,
    )


def _rows(
    opened: Opened, original: Opened | None, nonzero: dict[str, int]
) -> tuple[list[ModuleReport], Energies | None, list[str]]:
    sizes = {name: part.info.size for name, part in opened.parts.items()}
    modules = opened.modules()
    partners = original.modules() if original is not None else {}
    found, delta = opened.compare(original) if original is not None else ({}, None)
    rows = [
        module_report(module, sizes, nonzero, found.get(name)) for name, module in modules.items()
    ]
    factors = {name for module in modules.values() for name in (module.a, module.b)}
    for name, part in opened.parts.items():
        if name not in factors:
            energies = _compare_tensor(opened, original, part)
            rows.append(tensor_report(name, sizes[name], nonzero[name], energies))
    warnings = []
    if original is not None:
        warnings = [f"{name} is not in the original" for name in modules if name not in partners]
    missing = sorted(set(partners) - set(modules))
    return rows, delta, warnings + [f"{name} is only in the original" for name in missing]


def _compare_tensor(opened: Opened, original: Opened | None, part: Part) -> Energies | None:
    partner = original.parts.get(part.info.name) if original is not None else None
    if original is None or partner is None or partner.info.shape != part.info.shape:
        return None
    return vector_energies(original.vector.read(partner), opened.vector.read(part))


def _heads(opened: Opened, original: Opened | None) -> tuple[HeadReport, ...]:
    """Describe the tensors of a `.tern` that were rounded to few bits."""
    if opened.tern is None:
        return ()
    data, at, found = opened.tern.heads(), 0, []
    for tensor in opened.tern.index.heads:
        info = tensor.info
        size = heads.read_head(data[at : at + heads.HEAD_BYTES]).size_bytes
        at += size
        error = math.nan
        other = original.source.weights.tensors.get(info.name) if original is not None else None
        if original is not None and other is not None and other.size == info.size:
            before, after = (
                widen(side.source.weights.read(info.name)) for side in (original, opened)
            )
            error = heads.relative_error(before, after)
        found.append(HeadReport(info.name, size, info.size_bytes, error))
    return tuple(found)


def _treatment(opened: Opened) -> str:
    settings, tensors = opened.source.settings, opened.source.weights.tensors
    found = reason(settings, tensors.values())
    marked = settings.peft_type or find_parts(tensors.values(), settings)
    return found if marked or not opened.parts else "fine-tuned minus base"


def _sizes(opened: Opened) -> PartBytes:
    config = opened.source.config
    if opened.tern is None:
        lossy = sum(part.info.size_bytes for part in opened.vector.parts)
        return PartBytes(lossy, opened.source.weights.size_bytes - lossy, len(config))
    return _tern_sizes(opened.tern, len(dictionary.deflate(config)) if config else 0)


def _tern_sizes(tern: TernFile, config_bytes: int) -> PartBytes:
    parts = tern.part_bytes
    lossy = sum(parts.values()) - parts[EXACT] - parts[HEADS]
    return PartBytes(lossy, parts[EXACT], config_bytes, parts[HEADS])


def _bound_here(tern: TernFile | None, original: Opened | None, size: PartBytes) -> float | None:
    """Give the bound of the original at the size of a file that loses something."""
    if tern is None or original is None or tern.method == container.LOSSLESS:
        return None
    bits = bounded_bits(size.lossy, original.vector.size)
    points = bound_points(original.all_factors(), [bits]) if bits else ()
    return points[0].error if points else None


def _layers(tern: TernFile) -> tuple[LayerReport, ...]:
    """Say what a file records about the layers that it has."""
    described = tern.index.layers
    if described is None:
        return ()
    return tuple(
        LayerReport(described.start(number + 1), described.errors[number])
        for number in range(tern.layer_count)
    )


def _shannon_bytes(tern: TernFile) -> float | None:
    """Compute the entropy of all trits in one distribution, or take what layers tell of theirs."""
    if tern.index.layers is not None:
        told = tern.metadata.get(container.SHANNON, "")
        whole = tern.layer_count == len(tern.index.layers.sizes)
        return float(told) if whole and told.isdecimal() else None
    if tern.method != container.COMPEFT:
        return None
    counts: Array = np.zeros(3, np.int64)
    for segment in tern.segments():
        counts += np.bincount(segment + np.int8(1), minlength=3)
    return shannon_bits(counts) / 8


def _dtypes(names: Iterable[str]) -> str:
    return "+".join(sorted(set(names)))


def _inspect_model(tern: TernFile, *, compared: bool) -> Inspected:
    """Describe the residual of a model by its trits alone; no base is needed."""
    trits = tern.trit_reader()
    rows = []
    for stored in tern.index.coded:
        count, left = 0, stored.info.size
        while left:
            taken = min(left, 1 << 20)
            count += int(np.count_nonzero(trits.read(taken)))
            left -= taken
        rows.append(tensor_report(stored.info.name, stored.info.size, count, None))
    coded = [stored.info for stored in tern.index.coded]
    exact = [stored.info for stored in tern.index.exact]
    return Inspected(
        path=str(tern.path),
        encoding="tern",
        peft_type="",
        treatment="fine-tuned minus base",
        size=_tern_sizes(tern, 0),
        parameters=sum(row.parameters for row in rows),
        exact_parameters=sum(info.size for info in exact),
        exact_tensors=tuple(info.name for info in exact),
        nonzero=sum(round(row.density_a * row.parameters) for row in rows),
        properties=dict(tern.metadata),
        delta_error=None,
        delta_cosine=None,
        modules=tuple(rows),
        erased=tuple(row.name for row in rows if not row.density_a),
        warnings=(_NOT_COMPARED,) if compared else (),
        stored_dtype=_dtypes(info.dtype for info in coded),
        stored_bytes=sum(info.size_bytes for info in coded),
        source_bytes=sum(info.size_bytes for info in (*coded, *exact)),
        part_bytes=tern.part_bytes,
        shannon_bytes=_shannon_bytes(tern),
        error_bound=None,
        bounds=(),
        layers=(),
        heads=(),
    )
