"""Offer the kernels as a backend; `compress/backend.py` says what each method takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from compress import sparsify as reference
from compress.container import Stored
from compress.dtypes import Array
from compress.errors import OptionError
from compress.kernels import (
    centroids,
    entropy,
    factors,
    layer_masks,
    masks,
    plane_batches,
    planes,
    restore,
    sparsify,
    ternary,
)
from compress.kernels.segments import upload
from compress.kernels.tensors import (
    MAX_ELEMENTS,
    array_on_device,
    integers_on_device,
    on_device,
    on_host,
)
from compress.numpy_backend import check_levels, check_rank, check_whole
from compress.rate_distortion.decoder import Coded
from compress.sparsify import Chunks, Survey
from compress.ternary import unpack

Vector = Array | torch.Tensor


def on_gpu(device: str) -> KernelBackend:
    """Give the backend of a GPU.

    Raises:
        OptionError: there is no such GPU.
    """
    if not torch.cuda.is_available():
        raise OptionError(
            "there is no GPU", field="device", expected="cpu", actual=device, hint="use the CPU"
        )
    number = int(device.partition(":")[2] or 0) if device.partition(":")[2].isdecimal() else 0
    if device not in {"cuda", f"cuda:{number}"} or number >= torch.cuda.device_count():
        raise OptionError(
            "there is no such GPU",
            field="device",
            expected=f"cuda:0 to cuda:{torch.cuda.device_count() - 1}",
            actual=device,
        )
    return KernelBackend(device)


class KernelBackend:
    """Do it with kernels on one device; in Triton's interpreter that may be the CPU."""

    def __init__(self, device: str) -> None:
        self._device = device

    def _there(self) -> AbstractContextManager[None]:
        """Make the device the current one, on which Triton launches."""
        return nullcontext() if self._device == "cpu" else torch.cuda.device(self._device)

    def decode_values(
        self, segments: Sequence[bytes], *, scales: Sequence[float], dtype: str
    ) -> list[torch.Tensor]:
        """Decode segments into scale · trit."""
        batch = upload(segments, self._device)
        with self._there():
            symbols = entropy.decode_symbols(batch)
            return restore.restore(symbols, batch.spans, scales=scales, dtype=dtype)

    def decode_masks(self, segments: Sequence[bytes]) -> list[masks.DeviceMasks]:
        """Decode segments into bit planes."""
        batch = upload(segments, self._device)
        with self._there():
            return masks.pack_masks(entropy.decode_symbols(batch), batch.spans)

    def decode_tensors(
        self, segments: Sequence[bytes], tensors: Sequence[Stored], scales: Sequence[float]
    ) -> list[torch.Tensor]:
        """Decode segments and cut them into tensors."""
        ones = self.decode_values(segments, scales=[1.0] * len(segments), dtype="BF16")
        trits = torch.cat([torch.empty(0, dtype=torch.bfloat16, device=self._device), *ones])
        found, at = [], 0
        for tensor, scale in zip(tensors, scales, strict=True):
            stop = at + tensor.info.size
            found.append(restore.restore_tensor(trits[at:stop], tensor, scale))
            at = stop
        return found

    def decode_trits(self, segments: Sequence[bytes]) -> list[Array]:
        """Decode segments into trits; five travel to the host in a byte."""
        batch = upload(segments, self._device)
        with self._there():
            symbols = entropy.decode_symbols(batch).cpu().numpy()
        starts = batch.spans.table[:, 0].tolist()
        return [
            unpack(symbols[at : at + -(-trits // 5)], trits)
            for at, (_, trits) in zip(starts, batch.spans.places, strict=True)
        ]

    def decode_layers(self, segments: Sequence[Coded]) -> list[torch.Tensor]:
        """Decode segments of layers."""
        batch = plane_batches.upload(segments, self._device)
        targets = factors.upload(segments, batch.places, self._device)
        with self._there():
            levels = planes.decode_planes(batch)
            return factors.write_factors(levels, targets)

    def decode_layer_masks(self, segments: Sequence[Coded]) -> list[list[masks.DeviceMasks]]:
        """Decode whole segments of layers into bit planes."""
        check_whole(segments)
        batch = plane_batches.upload(segments, self._device)
        with self._there():
            values = planes.decode_planes(batch)
            return [
                layer_masks.split(
                    values[2 * place.first : 2 * (place.first + place.pairs)], max(coded.planes)
                )
                if coded.planes
                else []
                for coded, place in zip(segments, batch.places, strict=True)
            ]

    def on_host(self, values: torch.Tensor) -> Array:
        """Give values as a NumPy array."""
        return on_host(values)

    def on_device(self, values: Array) -> torch.Tensor:
        """Give a NumPy array on the device."""
        return array_on_device(values, self._device)

    def survey_chunks(self, chunks: Chunks, rank: int) -> Survey:
        """Measure a vector in pieces; only the threshold is found on the device.

        Sums of floats depend on their order, and a file must not depend on who made it.
        """

        def select() -> tuple[int, int, int] | None:
            pieces = []
            held = 0
            for values in chunks():
                held += len(values)
                if values.dtype != np.float32 or held > MAX_ELEMENTS:
                    return None
                pieces.append(on_device(values, self._device))
            with self._there():
                found = sparsify.radix_select(torch.cat(pieces), rank)
            return found.threshold_bits, found.below, found.ties

        return reference.survey(chunks, rank, select=select)

    def survey(self, values: Vector, rank: int) -> Survey:
        """Measure values and find the magnitude of a rank."""
        tensor = on_device(values, self._device)
        check_rank(rank, tensor.numel())
        with self._there():
            return sparsify.survey(tensor, rank)

    def ternarise_pack(
        self, values: Vector, threshold_bits: int, *, ties: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep signs of large magnitudes and pack them."""
        tensor = on_device(values, self._device)
        with self._there():
            return ternary.ternarise_pack(tensor, threshold_bits, ties=ties)

    def level_sums(self, levels: Vector, values: Vector) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum values by level."""
        tensor = on_device(values, self._device)
        flat = (
            levels.to(self._device).contiguous().view(-1)
            if isinstance(levels, torch.Tensor)
            else integers_on_device(levels.reshape(-1), self._device).view(
                torch.int8 if levels.itemsize == 1 else torch.int16
            )
        )
        check_levels(flat.numel(), tensor.numel())
        with self._there():
            return centroids.level_sums(flat, tensor)
