"""Check that trits become the right values, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.container import Stored
from compress.dtypes import WEIGHT_DTYPES
from compress.lora import Role
from compress.restore import restore
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo

TRITS = np.array([0, 1, -1, 1, 0, -1, 0], np.int8)


def tensor(dtype: str, initial: Initial) -> Stored:
    """Describe a tensor."""
    return Stored(TensorInfo("x", dtype, (len(TRITS),)), Role.OTHER, initial)


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.3, 1e-3, 7.77])
def test_signed_values(dtype: str, scale: float) -> None:
    value: Any = np.array([scale]).astype(WEIGHT_DTYPES[dtype]).astype(np.float64)[0]
    result = restore(TRITS, tensor(dtype, Initial.ZERO), scale)
    assert result.dtype == WEIGHT_DTYPES[dtype]
    np.testing.assert_array_equal(result.astype(np.float64), TRITS * value)


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
def test_zeros_are_positive(dtype: str) -> None:
    for scale in (0.5, 0.0):
        result = restore(TRITS, tensor(dtype, Initial.ZERO), scale).astype(np.float64)
        assert not np.signbit(result[TRITS == 0]).any()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_values_around_one(dtype: str) -> None:
    result = restore(TRITS, tensor(dtype, Initial.ONE), 0.1)
    expected = (1 + 0.1 * TRITS.astype(np.float64)).astype(WEIGHT_DTYPES[dtype])
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_values_around_the_base(dtype: str) -> None:
    base = np.linspace(-2, 2, len(TRITS)).astype(WEIGHT_DTYPES[dtype])
    result = restore(TRITS, tensor(dtype, Initial.BASE), 0.01, base=base)
    change = TRITS.astype(np.float32) * np.float32(0.01)
    expected = (base.astype(np.float32) + change).astype(WEIGHT_DTYPES[dtype])
    assert result.tobytes() == expected.tobytes()


def test_a_residual_needs_its_base() -> None:
    with pytest.raises(ValueError, match="base"):
        restore(TRITS, tensor("F32", Initial.BASE), 0.01)


def test_no_trits_give_no_values() -> None:
    empty = np.empty(0, np.int8)
    assert len(restore(empty, tensor("F16", Initial.ZERO), 1.0)) == 0
