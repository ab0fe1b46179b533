"""Choose who does the heavy arithmetic, by device: NumPy on the CPU, Triton kernels on a GPU.

Both do the same, with equal integers and equal bits of values. The kernels and torch are imported
when a GPU is asked for, and never otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from compress import centroids, entropy, masks, sparsify, ternary
from compress.dtypes import WEIGHT_DTYPES, Array, bit_view, cast
from compress.errors import OptionError

_KERNELS = "compress.kernels.backend"
#: A NumPy array or a torch tensor. No type says so, because torch may be absent.
Vector = Any
_NONZERO = np.abs(ternary.SYMBOL_TRITS).sum(axis=1, dtype=np.int64)
_SUM = ternary.SYMBOL_TRITS.sum(axis=1, dtype=np.int64)


class Backend(Protocol):
    """Do what takes time, on one device.

    Vectors come as NumPy arrays or as tensors and go as arrays of the backend: NumPy's on the CPU,
    torch tensors on a GPU. Segments are those of `compress.entropy`.
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
