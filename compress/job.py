"""Hold what is compressed and how, while a `.tern` file is made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from compress import container
from compress.adapter import Source
from compress.backend import Backend
from compress.compeft import Compeft
from compress.container import Stored, element_bytes
from compress.container_write import TernWriter
from compress.lossless import Lossless
from compress.measure import Energies
from compress.numpy_backend import NumpyBackend
from compress.rate_distortion.method import Rd
from compress.reports import ModuleReport
from compress.task_vector import TaskVector
from compress.water_filling import Spectrum

Method = Compeft | Rd | Lossless
_EXACT_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """Hold the source, its task vector and the method.

    Attributes:
        source: the opened adapter or model.
        vector: what of it is compressed.
        method: how.
        treatment: why these tensors are compressed.
        base_sha256: digest of the base model, where the task vector is a difference from it.
        backend: who does what a device can do as well.
    """

    source: Source
    vector: TaskVector
    method: Method
    treatment: str
    base_sha256: str = ""
    backend: Backend = field(default_factory=NumpyBackend)

    @property
    def names(self) -> frozenset[str]:
        """Name the tensors of the task vector."""
        return frozenset(part.info.name for part in self.vector.parts)


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what was found out while compressing.

    Attributes:
        rows: one per LoRA module or other tensor.
        delta: energies of ΔW over all LoRA modules, None without any.
        vector: energies over the other tensors, None without any.
        nonzero: values that are not zero afterwards.
        spectrum: of ΔW before, where all that is compressed is LoRA and it was found on the way.
    """

    rows: tuple[ModuleReport, ...]
    delta: Energies | None
    vector: Energies | None
    nonzero: int
    spectrum: Spectrum | None = None

    @property
    def erased(self) -> tuple[str, ...]:
        """Name the modules of which nothing is left."""
        return tuple(row.name for row in self.rows if row.erased)


def copy_exact(job: Job, tensors: Sequence[Stored], writer: TernWriter) -> None:
    """Copy tensors into the exact part, in the order given."""
    weights = job.source.weights
    for tensor in tensors:
        info = tensor.info
        for start in range(0, info.size_bytes, _EXACT_CHUNK_BYTES):
            stop = min(start + _EXACT_CHUNK_BYTES, info.size_bytes)
            data = weights.read_bytes(info.name, start, stop)
            writer.exact.add(data, width=element_bytes(info))


def metadata(job: Job, method: str, settings: dict[str, str], measured: Measured) -> dict[str, str]:
    """Say in a file's metadata what it is, how it was made and what it cost."""
    fields = {"format": container.FORMAT, "version": container.VERSION, "method": method}
    fields |= settings
    fields["source_sha256"] = job.source.weights.sha256()
    if job.base_sha256:
        fields["base_sha256"] = job.base_sha256
    if measured.delta is not None:
        fields["delta_error"] = f"{measured.delta.error:.4g}"
    if measured.vector is not None:
        fields["vector_error"] = f"{measured.vector.error:.4g}"
    if measured.erased:
        fields["erased"] = str(len(measured.erased))
    return fields
