"""Open any adapter alike: a folder, a file of weights, or a `.tern` of either, decoded aside."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from compress.adapter import CONFIG_NAME, Source, open_adapter
from compress.container import FORMAT, LOSSLESS
from compress.container_read import DEFAULT_MAX_DECODED_BYTES, TernFile
from compress.decode import write_weights
from compress.dtypes import WEIGHT_DTYPES
from compress.errors import SourceError
from compress.lora import FACTORS, LoraModule, find_modules
from compress.measure import Energies, Factors, delta_energies
from compress.numpy_backend import NumpyBackend
from compress.places import FOLDER_SUFFIX, LONE_SUFFIX, find_tern, tern_files
from compress.tally import as_factors
from compress.task_vector import Part, TaskVector, find_parts
from compress.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class Opened:
    """Hold an adapter that can be read, and the `.tern` file that it came from, if any.

    Attributes:
        path: what was opened.
        source: the ordinary adapter, decoded where it was compressed.
        vector: its task vector.
        tern: the file that it was decoded from, or None.
    """

    path: Path
    source: Source
    vector: TaskVector
    tern: TernFile | None

    @property
    def parts(self) -> dict[str, Part]:
        """Find the tensors of the task vector by name."""
        return self.vector.by_name

    def modules(self) -> dict[str, LoraModule]:
        """Find the LoRA modules whose factors are both of the task vector."""
        factors = {part.info.name for part in self.vector.parts if part.role in FACTORS}
        found = find_modules(self.source.weights, self.source.settings)
        return {module.name: module for module in found if {module.a, module.b} <= factors}

    def all_factors(self) -> list[Factors] | None:
        """Read the factors of all modules, or None where not all of the task vector is LoRA."""
        factors = [self.factors(module) for module in self.modules().values()]
        return factors if sum(f.a.size + f.b.size for f in factors) == self.vector.size else None

    def compare(self, original: Opened) -> tuple[dict[str, Energies], Energies | None]:
        """Compare ΔW here, the approximation, with an original: by module, and over all."""
        partners = original.modules()
        found = {
            name: delta_energies(original.factors(partners[name]), self.factors(module))
            for name, module in self.modules().items()
            if name in partners
        }
        total: Energies | None = None
        for energies in found.values():
            total = energies if total is None else total + energies
        return found, total

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


@contextmanager
def open_any(
    path: Path, *, max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES, layers: int | None = None
) -> Iterator[Opened]:
    """Open an adapter folder, a file of weights, or a `.tern` of either, decoded.

    Args:
        path: what to open.
        max_decoded_bytes: the most that a `.tern` file may decode to.
        layers: use only so many layers of a `.tern` that has layers.

    Raises:
        SourceError: an adapter is not valid.
        TernError: a `.tern` file is not valid.
    """
    if not is_tern(path):
        with open_adapter(path) as source:
            yield Opened(path, source, _vector(source), None)
        return
    with (
        TernFile(find_tern(path), max_decoded_bytes=max_decoded_bytes, layers=layers) as tern,
        tempfile.TemporaryDirectory(prefix="tern-") as work,
    ):
        folder = Path(work)
        write_weights(tern, folder / tern.index.weights_name, backend=NumpyBackend())
        if tern.index.config:
            (folder / CONFIG_NAME).write_bytes(tern.index.config)
        with open_adapter(folder) as source:
            yield Opened(path, source, _compressed_vector(source, tern), tern)


def _vector(source: Source) -> TaskVector:
    return TaskVector(source.weights, find_parts(source.weights.tensors.values(), source.settings))


def _compressed_vector(source: Source, tern: TernFile) -> TaskVector:
    """Take the task vector from what the file says: a residual carries no mark of its own."""
    if tern.method == LOSSLESS:
        return _vector(source)
    coded = tern.index.coded
    parts = [Part(stored.info, stored.role, stored.initial) for stored in coded]
    return TaskVector(source.weights, parts)


def as_other(original: Opened, other: Opened) -> Opened:
    """Count what is compressed in the other to the original too: a residual has no mark."""
    tensors, own = original.source.weights.tensors, original.parts
    alike = {
        name: replace(part, info=tensors[name])
        for name, part in other.parts.items()
        if name in tensors and tensors[name].dtype in WEIGHT_DTYPES
    }
    parts = {**alike, **own}.values()
    return replace(original, vector=TaskVector(original.source.weights, parts))
