"""Choose who does the heavy arithmetic, by device: NumPy on the CPU, Triton kernels on a GPU.

Both do the same, with equal integers and equal bits of values. The kernels and torch are imported
when a GPU is asked for, and never otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from compress import sparsify, ternary
from compress.container import Stored
from compress.container_read import TernFile
from compress.dtypes import Array
from compress.errors import OptionError
from compress.numpy_backend import NumpyBackend
from compress.rate_distortion import decoder
from compress.rate_distortion.decoder import Coded

_KERNELS = "compress.kernels.backend"
#: A NumPy array or a torch tensor. No type says so, because torch may be absent.
Vector = Any
_NONZERO = np.abs(ternary.SYMBOL_TRITS).sum(axis=1, dtype=np.int64)
_SUM = ternary.SYMBOL_TRITS.sum(axis=1, dtype=np.int64)
#: Values of the segments with layers that are decoded at one time, if one alone has not more.
BATCH_VALUES = 1 << 27


class Backend(Protocol):
    """Do what takes time, on one device.

    Vectors come as NumPy arrays or as tensors and go as arrays of the backend: NumPy's on the CPU,
    torch tensors on a GPU. Segments are those of `compress.entropy`, but for layers.
    """

    def decode_values(
        self, segments: Sequence[bytes], *, scales: Sequence[float], dtype: str
    ) -> list[Vector]:
        """Decode segments into scale · trit, each [trits] of F32, BF16 or F16.

        Raises:
            TernDamagedError: a segment is damaged.
            OptionError: the type is unknown, or there is not one scale for every segment.
        """
        ...

    def decode_masks(self, segments: Sequence[bytes]) -> list[Any]:
        """Decode segments into bit planes, each with `trits`, `positive` and `negative`.

        Raises:
            TernDamagedError: a segment is damaged.
        """
        ...

    def decode_tensors(
        self, segments: Sequence[bytes], tensors: Sequence[Stored], scales: Sequence[float]
    ) -> list[Vector]:
        """Decode segments and cut them into tensors, each flat in its own type.

        Args:
            segments: of trits, as many as the tensors have elements.
            tensors: in the order of the trits; their initial value is not the base.
            scales: what +1 stands for in each tensor.

        Raises:
            TernDamagedError: a segment is damaged.
        """
        ...

    def decode_trits(self, segments: Sequence[bytes]) -> list[Array]:
        """Decode segments into int8 [trits], in the memory of the host.

        Raises:
            TernDamagedError: a segment is damaged.
        """
        ...

    def decode_layers(self, segments: Sequence[Coded]) -> list[Vector]:
        """Decode segments of layers into their tensors, flat, in the order of `Coded.tensors`.

        Raises:
            TernDamagedError: a plane is damaged, or a value does not fit its type.
        """
        ...

    def decode_layer_masks(self, segments: Sequence[Coded]) -> list[list[Any]]:
        """Decode whole segments of layers into bit planes, as `layer_masks.split` gives them.

        Returns:
            By segment, ternary tensors over the levels in the order of its layout, whose scales
            `layer_masks.layer_scales` tells; none of a segment without components.

        Raises:
            TernDamagedError: a plane is damaged.
            OptionError: a segment lacks its finest planes.
        """
        ...

    def on_host(self, values: Vector) -> Array:
        """Give values, float [n] of any weight type, as a NumPy array."""
        ...

    def on_device(self, values: Array) -> Vector:
        """Give a NumPy array of any type that a tensor can have, in its shape.

        Raises:
            OptionError: the backend does not know the type.
        """
        ...

    def survey_chunks(self, chunks: sparsify.Chunks, rank: int) -> sparsify.Survey:
        """Measure a vector in pieces; every device gives the same bits as `sparsify.survey`."""
        ...

    def survey(self, values: Vector, rank: int) -> sparsify.Survey:
        """Measure float [n] values, n > 0, and find the magnitude of a rank, as `sparsify.survey`.

        Raises:
            OptionError: the rank is not in 0…n, or the backend does not know the type.
        """
        ...

    def ternarise_pack(
        self, values: Vector, threshold_bits: int, *, ties: int | None = None
    ) -> tuple[Vector, Vector]:
        """Keep signs of float [n] magnitudes from a threshold on; pack five trits into a byte.

        Args:
            values: float [n].
            threshold_bits: the smallest kept magnitude, as bits of the values' own type.
            ties: how many values on the threshold are kept, in order of position; None keeps all.

        Returns:
            uint8 [⌈n/5⌉] symbols and int64 [243] counts of them.

        Raises:
            OptionError: the backend does not know the type.
        """
        ...

    def level_sums(self, levels: Vector, values: Vector) -> tuple[Vector, Vector]:
        """Sum float [n] values by int8 or int16 [n] level: float64 sums and int64 counts.

        There are 256 of both, level q at q + 128, or for int16 65 536, q + 32 768.

        Raises:
            OptionError: there is not one level for every value.
        """
        ...


def choose(device: str = "cpu") -> Backend:
    """Give the backend of a device: "cpu", or "cuda" with or without a number.

    Raises:
        OptionError: the device is unknown or absent, or its programs are not installed.
    """
    if device == "cpu":
        return NumpyBackend()
    if device.partition(":")[0] != "cuda":
        raise OptionError(
            "the device is unknown", field="device", expected="cpu or cuda", actual=device
        )
    try:
        kernels = importlib.import_module(_KERNELS)
    except ModuleNotFoundError as error:
        raise OptionError(
            "the programs for a GPU are not installed",
            field="device",
            expected="torch and triton",
            actual=str(error),
            hint="install the extra 'gpu', or use the CPU",
        ) from error
    backend: Backend = kernels.on_gpu(device)
    return backend


def decode_layers(
    tern: TernFile, backend: Backend, *, layers: int | None = None
) -> Iterator[tuple[Stored, Array]]:
    """Decode the tensors of a file with layers, as `rate_distortion.decode`, but on a device.

    Yields:
        the tensor and its values, flat, in its storage type, in the memory of the host.

    Raises:
        TernDamagedError: a layer is not one that an encoder writes.
        TernTooLargeError: a segment holds more than is ever decoded at once.
    """
    if isinstance(backend, NumpyBackend):
        yield from decoder.decode(tern, layers=layers)
        return
    for batch in batches(decoder.read(tern, layers=layers)):
        tensors = [tensor for coded in batch for tensor in coded.tensors]
        for tensor, values in zip(tensors, backend.decode_layers(batch), strict=True):
            yield tensor, backend.on_host(values)


def batches(segments: Iterable[Coded], *, values: int | None = None) -> Iterator[list[Coded]]:
    """Gather segments that are decoded at one time: many keep a GPU busy, too many do not fit.

    Args:
        segments: those of one file or of many.
        values: how many their tensors may have together, unless one alone has more; None means
            `BATCH_VALUES`.
    """
    most = BATCH_VALUES if values is None else values
    batch: list[Coded] = []
    held = 0
    for coded in segments:
        size = sum(tensor.info.size for tensor in coded.tensors)
        if batch and held + size > most:
            yield batch
            batch, held = [], 0
        batch.append(coded)
        held += size
    if batch:
        yield batch


def trit_counts(symbol_counts: Array, trits: int) -> tuple[int, int, int]:
    """Compute how many trits are −1, 0 and +1 from the counts of their symbols.

    Args:
        symbol_counts: int64 [243].
        trits: how many there are; what fills up the last symbol is not counted.
    """
    nonzero, total = int(symbol_counts @ _NONZERO), int(symbol_counts @ _SUM)
    return (nonzero - total) // 2, trits - nonzero, (nonzero + total) // 2
