"""Look into an adapter or a `.tern` file: what it holds, and what is lost against an original."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress import dictionary
from compress.adapter import CONFIG_NAME, Source, SourceKind, open_adapter
from compress.container import EXACT, FORMAT
from compress.container_read import DEFAULT_MAX_DECODED_BYTES, TernFile
from compress.decode import write_weights
from compress.dtypes import WEIGHT_DTYPES
from compress.errors import SourceError
from compress.lora import FACTORS, LoraModule, find_modules
from compress.measure import Energies, Factors, delta_energies, vector_energies
from compress.places import FOLDER_SUFFIX, LONE_SUFFIX, find_tern, tern_files
from compress.reports import Inspection, ModuleReport, PartBytes
from compress.tally import as_factors, module_report, tensor_report
from compress.task_vector import Part, TaskVector, find_parts, reason
from compress.tensor_file import TensorFile

_NOT_COMPARED = (
    "a model's residual is not compared here: its error is the vector_error that it tells"
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """Hold an adapter that can be read, and the `.tern` file that it came from, if any."""

    path: Path
    source: Source
    vector: TaskVector
    tern: TernFile | None

    @property
    def parts(self) -> dict[str, Part]:
        """Find the tensors of the task vector by name."""
        return {part.info.name: part for part in self.vector.parts}

    def modules(self) -> dict[str, LoraModule]:
        """Find the LoRA modules whose factors are both of the task vector."""
        factors = {part.info.name for part in self.vector.parts if part.role in FACTORS}
        found = find_modules(self.source.weights, self.source.settings)
        return {module.name: module for module in found if {module.a, module.b} <= factors}

    def factors_energies(self, module: LoraModule, other: _Opened, partner: LoraModule) -> Energies:
        """Compare ΔW of a module here (the approximation) and there (the original)."""
        return delta_energies(other.factors(partner), self.factors(module))

    def factors(self, module: LoraModule) -> Factors:
        """Read the factors of a module."""
        parts, weights = self.parts, self.source.weights
        a, b = self.vector.read(parts[module.a]), self.vector.read(parts[module.b])
        return as_factors(module, a, b, weights.read(module.middle) if module.middle else None)


def is_tern(path: Path) -> bool:
    """Say whether a path is a `.tern` file or a folder with one, by its name or its header."""
    if path.is_dir():
        return len(tern_files(path)) == 1
    if path.is_file() and path.name.endswith((LONE_SUFFIX, FOLDER_SUFFIX)):
        return True
    try:
        with TensorFile(path) as file:
            return file.metadata.get("format") == FORMAT
    except (SourceError, OSError):
        return False


def inspect(
    source: Path,
    *,
    against: Path | None = None,
    max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
) -> Inspection:
    """Describe an adapter folder, a safetensors file of LoRA weights, or a `.tern` file or folder.

    Args:
        source: what to look at.
        against: the original to compare ΔW with; may itself be any of these.
        max_decoded_bytes: the most that a `.tern` file may decode to.

    Returns:
        sizes, one row per module, and which modules are lost.

    Raises:
        SourceError: an adapter is not valid.
        TernError: a `.tern` file is not valid.
    """
    if is_tern(source):
        with TernFile(find_tern(source), max_decoded_bytes=max_decoded_bytes) as tern:
            if tern.index.kind is SourceKind.MODEL:
                return _inspect_model(tern, compared=against is not None)
    with _open(source, max_decoded_bytes) as opened:
        if against is None:
            return _inspect(opened, None)
        with _open(against, max_decoded_bytes) as original:
            return _inspect(opened, _as_other(original, opened))


@contextmanager
def _open(path: Path, max_decoded_bytes: int) -> Iterator[_Opened]:
    if not is_tern(path):
        with open_adapter(path) as source:
            yield _Opened(path, source, _vector(source), None)
        return
    with (
        TernFile(find_tern(path), max_decoded_bytes=max_decoded_bytes) as tern,
        tempfile.TemporaryDirectory(prefix="tern-") as work,
    ):
        folder = Path(work)
        write_weights(tern, folder / tern.index.weights_name)
        if tern.index.config:
            (folder / CONFIG_NAME).write_bytes(tern.index.config)
        with open_adapter(folder) as source:
            yield _Opened(path, source, _compressed_vector(source, tern), tern)


def _vector(source: Source) -> TaskVector:
    return TaskVector(source.weights, find_parts(source.weights.tensors.values(), source.settings))


def _compressed_vector(source: Source, tern: TernFile) -> TaskVector:
    """Take the task vector from what the file says: a residual carries no mark of its own."""
    coded = tern.index.coded
    parts = [Part(stored.info, stored.role, stored.initial) for stored in coded]
    return TaskVector(source.weights, parts)


def _as_other(original: _Opened, other: _Opened) -> _Opened:
    """Count what is compressed in the other to the original too: a residual has no mark."""
    tensors, own = original.source.weights.tensors, original.parts
    alike = {
        name: replace(part, info=tensors[name])
        for name, part in other.parts.items()
        if name in tensors and tensors[name].dtype in WEIGHT_DTYPES
    }
    parts = {**alike, **own}.values()
    return replace(original, vector=TaskVector(original.source.weights, parts))


def _inspect(opened: _Opened, original: _Opened | None) -> Inspection:
    parts = opened.parts
    sizes = {name: part.info.size for name, part in parts.items()}
    nonzero = {
        name: int(np.count_nonzero(opened.vector.read(part))) for name, part in parts.items()
    }
    rows, delta, warnings = _rows(opened, original, sizes, nonzero)
    exact = [info for name, info in opened.source.weights.tensors.items() if name not in parts]
    kind = "lora-raw" if opened.source.kind is SourceKind.RAW else "peft"
    compared = delta is not None and bool(delta.original) and original is not None
    return Inspection(
        path=str(opened.path),
        encoding="tern" if opened.tern else kind,
        peft_type=opened.source.settings.peft_type,
        treatment=_treatment(opened),
        size=_sizes(opened),
        parameters=opened.vector.size,
        exact_parameters=sum(info.size for info in exact),
        exact_tensors=tuple(info.name for info in exact),
        nonzero=sum(nonzero.values()),
        properties=dict(opened.tern.metadata) if opened.tern else {},
        delta_error=delta.error if delta is not None and compared else None,
        delta_cosine=delta.cosine if delta is not None and compared else None,
        modules=tuple(rows),
        erased=tuple(row.name for row in rows if row.erased),
        warnings=(*opened.source.warnings, *warnings),
    )


def _rows(
    opened: _Opened, original: _Opened | None, sizes: dict[str, int], nonzero: dict[str, int]
) -> tuple[list[ModuleReport], Energies | None, list[str]]:
    rows: list[ModuleReport] = []
    warnings: list[str] = []
    delta: Energies | None = None
    modules = opened.modules()
    partners = original.modules() if original is not None else {}
    for name, module in modules.items():
        energies = None
        if original is not None and name in partners:
            energies = opened.factors_energies(module, original, partners[name])
            delta = energies if delta is None else delta + energies
        elif original is not None:
            warnings.append(f"{name} is not in the original")
        rows.append(module_report(module, sizes, nonzero, energies))
    factors = {name for module in modules.values() for name in (module.a, module.b)}
    for name, part in opened.parts.items():
        if name not in factors:
            energies = _compare_tensor(opened, original, part)
            rows.append(tensor_report(name, sizes[name], nonzero[name], energies))
    missing = sorted(set(partners) - set(modules))
    warnings += [f"{name} is only in the original" for name in missing]
    return rows, delta, warnings


def _compare_tensor(opened: _Opened, original: _Opened | None, part: Part) -> Energies | None:
    partner = original.parts.get(part.info.name) if original is not None else None
    if original is None or partner is None or partner.info.shape != part.info.shape:
        return None
    return vector_energies(original.vector.read(partner), opened.vector.read(part))


def _treatment(opened: _Opened) -> str:
    settings, tensors = opened.source.settings, opened.source.weights.tensors
    found = reason(settings, tensors.values())
    marked = settings.peft_type or find_parts(tensors.values(), settings)
    return found if marked or not opened.parts else "fine-tuned minus base"


def _sizes(opened: _Opened) -> PartBytes:
    config = opened.source.config
    if opened.tern is None:
        lossy = sum(part.info.size_bytes for part in opened.vector.parts)
        return PartBytes(lossy, opened.source.weights.size_bytes - lossy, len(config))
    parts = opened.tern.part_bytes
    packed = len(dictionary.deflate(config)) if config else 0
    return PartBytes(sum(parts.values()) - parts[EXACT], parts[EXACT], packed)


def _inspect_model(tern: TernFile, *, compared: bool) -> Inspection:
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
    exact = [stored.info for stored in tern.index.exact]
    sizes = tern.part_bytes
    return Inspection(
        path=str(tern.path),
        encoding="tern",
        peft_type="",
        treatment="fine-tuned minus base",
        size=PartBytes(sum(sizes.values()) - sizes[EXACT], sizes[EXACT], 0),
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
    )
