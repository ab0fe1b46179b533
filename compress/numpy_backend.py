"""Do the heavy arithmetic on the CPU: the backend that every other one gives the same bits as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress import centroids, entropy, masks, sparsify, ternary
from compress.container import Stored
from compress.dtypes import WEIGHT_DTYPES, Array, bit_view, cast
from compress.errors import OptionError
from compress.rate_distortion import decoder, layer_masks, segment
from compress.rate_distortion.decoder import Coded
from compress.restore import restore


class NumpyBackend:
    """Do it on the CPU with NumPy; see `backend.Backend` for what each method takes and gives."""

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
