"""Check that decoded values are the reference's, bit for bit, in every storage type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress import entropy
from compress.dtypes import WEIGHT_DTYPES
from compress.errors import OptionError
from compress.kernels import restore as kernel
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend
from tests.compress.kernels.trit_segments import LAYOUTS, random_trits

REFERENCE = NumpyBackend()
STORED = ["F32", "BF16", "F16"]


def bits(tensor: Any) -> NDArray[Any]:
    """See the values of a tensor as integers."""
    import torch

    width = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return np.asarray(tensor.view(width).cpu().numpy())


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("size", [1, 8, 31, 33, 40, 41, 1009])
def test_kernel_equals_reference(size: int, dtype: str, kernels: KernelBackend) -> None:
    segment = entropy.encode_segment(random_trits(size, 0.6, seed=size))
    (found,) = kernels.decode_values([segment], scales=[0.0371], dtype=dtype)
    (expected,) = REFERENCE.decode_values([segment], scales=[0.0371], dtype=dtype)
    assert expected.dtype == WEIGHT_DTYPES[dtype]
    np.testing.assert_array_equal(bits(found), expected.view(bits(found).dtype))


@pytest.mark.parametrize("size", [639, 640, 641])
def test_sizes_around_a_block(
    size: int, kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant segment has no lanes, so that only the values take time: 16 rows to a program."""
    monkeypatch.setattr(kernel, "_BLOCK", 16)
    segment = entropy.encode_segment(-np.ones(size, np.int8))
    (found,) = kernels.decode_values([segment], scales=[0.5], dtype="F16")
    assert len(found) == size
    assert (bits(found).view(np.uint16) == 0xB800).all()


@pytest.mark.parametrize("dtype", STORED)
def test_every_symbol_and_every_place(dtype: str, kernels: KernelBackend) -> None:
    from compress.ternary import SYMBOL_TRITS

    trits = SYMBOL_TRITS.reshape(-1)
    (found,) = kernels.decode_values([entropy.encode_segment(trits)], scales=[3.0], dtype=dtype)
    np.testing.assert_array_equal(found.float().cpu().numpy(), trits.astype(np.float32) * 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_segment_has_its_scale(layout: str, kernels: KernelBackend) -> None:
    pieces = [random_trits(size, 0.5, seed=size) for size in (33, 0, 1000, 1)]
    scales = [0.25, 9.0, 0.5, 2.0]
    segments = [LAYOUTS[layout](piece) for piece in pieces]
    for dtype in STORED:
        found = kernels.decode_values(segments, scales=scales, dtype=dtype)
        for values, piece, scale in zip(found, pieces, scales, strict=True):
            np.testing.assert_array_equal(values.float().cpu().numpy(), piece * np.float32(scale))


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("scale", [0.0, -0.5, 1e-60, 1e-45, 6e-8, 65504.0, 3e38, 1e300])
def test_scales_at_the_ends_of_the_type(dtype: str, scale: float, kernels: KernelBackend) -> None:
    segment = entropy.encode_segment(np.array([1, -1, 0, -1, 1], np.int8))
    (found,) = kernels.decode_values([segment], scales=[scale], dtype=dtype)
    (expected,) = REFERENCE.decode_values([segment], scales=[scale], dtype=dtype)
    np.testing.assert_array_equal(bits(found), expected.view(bits(found).dtype))
    assert bits(found)[2] == 0
    if 0 <= scale < 1e-50:
        assert not bits(found).any()


def test_options_that_are_refused(kernels: KernelBackend) -> None:
    segment = entropy.encode_segment(np.ones(3, np.int8))
    for found in (REFERENCE, kernels):
        with pytest.raises(OptionError, match="scale"):
            found.decode_values([segment], scales=[], dtype="F32")
        with pytest.raises(OptionError, match="type"):
            found.decode_values([segment], scales=[1.0], dtype="I8")


def test_the_reference_restores_as_files_do() -> None:
    """What the backend gives on a CPU is what `compress.restore` writes into a folder."""
    from compress.container import Stored
    from compress.lora import Role
    from compress.restore import restore
    from compress.task_vector import Initial
    from compress.tensor_file import TensorInfo

    trits = random_trits(100, 0.7)
    for dtype in WEIGHT_DTYPES:
        stored = Stored(TensorInfo("t", dtype, (100,)), Role.A, Initial.ZERO, 0)
        expected = restore(trits, stored, 0.0371)
        (found,) = REFERENCE.decode_values(
            [entropy.encode_segment(trits)], scales=[0.0371], dtype=dtype
        )
        assert found.tobytes() == expected.tobytes()
