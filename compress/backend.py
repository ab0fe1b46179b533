"""Choose who does the heavy arithmetic, by device: NumPy on the CPU, Triton kernels on a GPU.

Both do the same, with equal integers and equal bits of values. The kernels and torch are imported
when a GPU is asked for, and never otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from compress import centroids, entropy, masks, sparsify, ternary
from compress.container import Stored
from compress.container_read import TernFile
from compress.dtypes import WEIGHT_DTYPES, Array, bit_view, cast
from compress.errors import OptionError
from compress.rate_distortion import decoder, layer_masks, segment
from compress.rate_distortion.decoder import Coded
from compress.restore import restore

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


def batches(segments: Iterable[Coded]) -> Iterator[list[Coded]]:
    """Gather segments that are decoded at one time: many keep a GPU busy, too many do not fit."""
    batch: list[Coded] = []
    held = 0
    for coded in segments:
        size = sum(tensor.info.size for tensor in coded.tensors) + coded.layout.size
        if batch and held + size > BATCH_VALUES:
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


class NumpyBackend:
    """Do it on the CPU with NumPy; see `Backend` for what each method takes and gives."""

    def decode_values(
        self, segments: Sequence[bytes], *, scales: Sequence[float], dtype: str
    ) -> list[Array]:
        """Decode segments into scale · trit."""
        if dtype not in WEIGHT_DTYPES:
            raise OptionError(
                "the type is unknown",
                field="dtype",
                expected=", ".join(WEIGHT_DTYPES),
                actual=dtype,
            )
        if len(scales) != len(segments):
            raise OptionError(
                "there is not one scale for every segment",
                field="scales",
                expected=str(len(segments)),
                actual=str(len(scales)),
            )
        return [
            _levels(cast(scale, dtype)).take(entropy.decode_segment(segment).astype(np.intp) + 1)
            for segment, scale in zip(segments, scales, strict=True)
        ]

    def decode_masks(self, segments: Sequence[bytes]) -> list[masks.Masks]:
        """Decode segments into bit planes."""
        return [masks.pack_masks(entropy.decode_segment(segment)) for segment in segments]

    def decode_tensors(
        self, segments: Sequence[bytes], tensors: Sequence[Stored], scales: Sequence[float]
    ) -> list[Array]:
        """Decode segments and cut them into tensors."""
        trits = np.concatenate([np.empty(0, np.int8), *self.decode_trits(segments)])
        found, at = [], 0
        for tensor, scale in zip(tensors, scales, strict=True):
            stop = at + tensor.info.size
            found.append(restore(trits[at:stop], tensor, scale))
            at = stop
        return found

    def decode_trits(self, segments: Sequence[bytes]) -> list[Array]:
        """Decode segments into trits."""
        return [entropy.decode_segment(segment) for segment in segments]

    def decode_layers(self, segments: Sequence[Coded]) -> list[Array]:
        """Decode segments of layers."""
        return [values for coded in segments for _, values in decoder.decode_segment(coded)]

    def decode_layer_masks(self, segments: Sequence[Coded]) -> list[list[masks.Masks]]:
        """Decode whole segments of layers into bit planes."""
        check_whole(segments)
        found: list[list[masks.Masks]] = []
        for coded in segments:
            split: list[masks.Masks] = []
            if coded.planes:
                values = segment.decode(coded.blocks, coded.layout, coded.planes)
                split = layer_masks.split(values.astype(np.int16), max(coded.planes))
            found.append(split)
        return found

    def on_host(self, values: Array) -> Array:
        """Give values as they are."""
        return values

    def on_device(self, values: Array) -> Array:
        """Give values as they are."""
        return values

    def survey_chunks(self, chunks: sparsify.Chunks, rank: int) -> sparsify.Survey:
        """Measure a vector in pieces."""
        return sparsify.survey(chunks, rank)

    def survey(self, values: Array, rank: int) -> sparsify.Survey:
        """Measure values and find the magnitude of a rank."""
        check_rank(rank, len(values))
        return sparsify.survey(lambda: [values], rank)

    def ternarise_pack(
        self, values: Array, threshold_bits: int, *, ties: int | None = None
    ) -> tuple[Array, Array]:
        """Keep signs of large magnitudes and pack them."""
        bits = sparsify.magnitude_bits(values)
        keep = bits >= threshold_bits
        if ties is not None:
            keep[np.flatnonzero(bits == threshold_bits)[ties:]] = False
        trits = (values > 0).view(np.int8) - (values < 0).view(np.int8)
        symbols = ternary.pack(trits * keep.view(np.int8))
        return symbols, np.bincount(symbols, minlength=ternary.SYMBOLS)

    def level_sums(self, levels: Array, values: Array) -> tuple[Array, Array]:
        """Sum values by level."""
        check_levels(len(levels), len(values))
        return centroids.level_sums(levels, values)


def check_rank(rank: int, count: int) -> None:
    """Refuse a rank outside of 0…count, and a vector of nothing.

    Raises:
        OptionError: it is.
    """
    if not (0 <= rank <= count and count):
        raise OptionError(
            "no value has this rank", field="rank", expected=f"0 to {count}", actual=str(rank)
        )


def check_whole(segments: Sequence[Coded]) -> None:
    """Refuse segments that lack planes.

    Raises:
        OptionError: one does.
    """
    for coded in segments:
        if len(coded.blocks) != max(coded.planes, default=0):
            raise OptionError(
                "levels that lack planes are no sum of ternary tensors with common scales",
                field="layers",
                expected=f"{max(coded.planes)} planes",
                actual=str(len(coded.blocks)),
                hint="decode all layers",
            )


def check_levels(levels: int, values: int) -> None:
    """Refuse levels that are not as many as the values.

    Raises:
        OptionError: they are not.
    """
    if levels != values:
        raise OptionError(
            "there is not one level for every value",
            field="levels",
            expected=str(values),
            actual=str(levels),
        )


def _levels(scale: Array) -> Array:
    """Give −scale, 0 and +scale; +0 thrice where the scale has underflown to zero."""
    negative = -scale if bit_view(scale)[0] else scale
    return np.concatenate([negative, np.zeros(1, scale.dtype), scale])
