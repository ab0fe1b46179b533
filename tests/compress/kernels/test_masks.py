"""Check bit planes against Python's integers, and the kernel against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import masks
from compress.errors import OptionError, TernDamagedError
from compress.kernels import masks as kernel
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend
from tests.compress.kernels.trit_segments import LAYOUTS, random_trits

SIZES = [0, 1, 31, 32, 33, 63, 64, 65, 1009]


def plane(trits: list[int], sign: int) -> list[int]:
    """Compute the words of a plane with Python's integers."""
    whole = sum(1 << place for place, trit in enumerate(trits) if trit == sign)
    return [whole >> 32 * word & 0xFFFFFFFF for word in range(-(-len(trits) // 32))]


@pytest.mark.parametrize("size", SIZES)
def test_planes_are_bits_in_order(size: int) -> None:
    trits = random_trits(size, 0.7, seed=size)
    packed = masks.pack_masks(trits)
    assert packed.trits == size
    assert packed.positive.dtype == packed.negative.dtype == np.uint32
    assert packed.positive.tolist() == plane(trits.tolist(), 1)
    assert packed.negative.tolist() == plane(trits.tolist(), -1)
    assert packed.nonzero == int(np.abs(trits).sum())
    np.testing.assert_array_equal(masks.unpack_masks(packed), trits)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.sampled_from([-1, 0, 1])] * 2), max_size=100))
def test_the_product_is_exact(pairs: list[tuple[int, int]]) -> None:
    left, right = (np.array([pair[side] for pair in pairs], np.int8) for side in (0, 1))
    found = masks.dot(masks.pack_masks(left), masks.pack_masks(right))
    assert found == sum(a * b for a, b in pairs)
    assert masks.unpack_masks(masks.pack_masks(left)).tolist() == left.tolist()


def test_different_sizes_have_no_product() -> None:
    with pytest.raises(OptionError, match="32"):
        masks.dot(masks.pack_masks(np.ones(32, np.int8)), masks.pack_masks(np.ones(33, np.int8)))


def test_packing_leaves_its_input_alone() -> None:
    trits = random_trits(100)
    before = trits.copy()
    masks.pack_masks(trits)
    np.testing.assert_array_equal(trits, before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [[1], [31], [32], [33], [1009], [64, 0, 33, 5, 1000], []])
def test_kernel_equals_reference(sizes: list[int], layout: str, kernels: KernelBackend) -> None:
    segments = [LAYOUTS[layout](random_trits(size, 0.5, seed=size)) for size in sizes]
    found = kernels.decode_masks(segments)
    expected = NumpyBackend().decode_masks(segments)
    assert len(found) == len(expected) == len(sizes)
    for device, host in zip(found, expected, strict=True):
        assert device.trits == host.trits
        for name in ("positive", "negative"):
            bits = getattr(device, name).cpu().numpy().view(np.uint32)
            np.testing.assert_array_equal(bits, getattr(host, name))


@pytest.mark.parametrize("size", [255, 256, 257])
@pytest.mark.parametrize("trit", [-1, 1])
def test_sizes_around_a_block(
    size: int, trit: int, kernels: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant segment has no lanes, so that only the planes take time: 8 words to a program."""
    monkeypatch.setattr(kernel, "_BLOCK", 8)
    segment = LAYOUTS["shared"](np.full(size, trit, np.int8))
    (found,) = kernels.decode_masks([segment])
    words = getattr(found, "positive" if trit > 0 else "negative").cpu().numpy()
    assert words.view(np.uint32).tolist() == plane([1] * size, 1)
    assert not (found.negative if trit > 0 else found.positive).any()


def test_damage_is_noticed(kernels: KernelBackend) -> None:
    segment = LAYOUTS["shared"](random_trits(100))
    for found in (kernels, NumpyBackend()):
        with pytest.raises(TernDamagedError):
            found.decode_masks([segment[:-1]])
