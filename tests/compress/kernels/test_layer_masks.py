"""Check that ternary tensors with scales are the values, and the kernel against the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress import masks
from compress.errors import OptionError, TernDamagedError
from compress.kernels import layer_masks as kernel
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend
from compress.rate_distortion import layer_masks as reference
from compress.rate_distortion import segment
from compress.rate_distortion.digits import magnitudes
from tests.compress.kernels.plane_segments import Module, coded_segment, with_block

Array = NDArray[Any]
SIZES = [0, 1, 31, 32, 33, 2047, 2048, 2049, 1009]


def sum_of(tensors: list[masks.Masks], planes: int) -> Array:
    """Add ternary tensors times their scales."""
    scales = reference.layer_scales(planes)
    assert len(tensors) == len(scales) == planes + 1
    parts = zip(tensors, scales, strict=True)
    summed: Array = np.sum([masks.unpack_masks(one) * scale for one, scale in parts], axis=0)
    return summed


@pytest.mark.parametrize("planes", [1, 2, 3, 8])
def test_the_tensors_add_up_to_every_value(planes: int) -> None:
    largest = 2 * (magnitudes(planes) - 1)
    values = np.arange(-largest, largest + 1, dtype=np.int16)
    assert sum_of(reference.split(values, planes), planes).tolist() == values.tolist()


@pytest.mark.parametrize("planes", [1, 2, 8])
@pytest.mark.parametrize("size", SIZES)
def test_kernel_equals_reference(size: int, planes: int, device: str) -> None:
    largest = 2 * (magnitudes(planes) - 1)
    values = np.random.default_rng(size).integers(-largest, largest + 1, size).astype(np.int16)
    found = kernel.split(torch.from_numpy(values).to(device), planes)
    expected = reference.split(values, planes)
    assert len(found) == len(expected)
    for there, here in zip(found, expected, strict=True):
        assert there.trits == here.trits
        assert there.positive.cpu().numpy().view(np.uint32).tolist() == here.positive.tolist()
        assert there.negative.cpu().numpy().view(np.uint32).tolist() == here.negative.tolist()


SEGMENTS = [
    coded_segment([Module((40, 30), (12, 7))], lanes=32),
    coded_segment([Module((9, 5), ())]),
    coded_segment([Module((61,), (2,))], lanes=9),
]


def test_segments_become_their_values(kernels: KernelBackend) -> None:
    found = kernels.decode_layer_masks(SEGMENTS)
    expected = NumpyBackend().decode_layer_masks(SEGMENTS)
    assert not found[1]
    assert not expected[1]
    for coded, there, here in zip(SEGMENTS, found, expected, strict=True):
        for one, other in zip(there, here, strict=True):
            assert one.positive.cpu().numpy().view(np.uint32).tolist() == other.positive.tolist()
            assert one.negative.cpu().numpy().view(np.uint32).tolist() == other.negative.tolist()
        if coded.planes:
            values = segment.decode(coded.blocks, coded.layout, coded.planes)
            assert sum_of(here, max(coded.planes)).tolist() == values.tolist()


def test_a_part_of_the_layers_is_refused(kernels: KernelBackend) -> None:
    coded = replace(SEGMENTS[0], blocks=SEGMENTS[0].blocks[:1])
    for backend in (kernels, NumpyBackend()):
        with pytest.raises(OptionError, match="all layers"):
            backend.decode_layer_masks([coded])


def test_damage_is_noticed(kernels: KernelBackend) -> None:
    block = SEGMENTS[0].blocks[-1]
    damaged = with_block(SEGMENTS[0], block[:-1] + bytes([block[-1] ^ 1]))
    for backend in (kernels, NumpyBackend()):
        with pytest.raises(TernDamagedError):
            backend.decode_layer_masks([damaged])
