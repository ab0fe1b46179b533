"""Offer the kernels as a backend; `compress/backend.py` says what each method takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from compress.backend import check_levels, check_rank
from compress.dtypes import Array
from compress.errors import OptionError
from compress.kernels import centroids, entropy, masks, restore, sparsify, ternary
from compress.kernels.segments import upload
from compress.kernels.tensors import integers_on_device, on_device
from compress.sparsify import Survey

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
