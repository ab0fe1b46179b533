"""Run kernels in Triton's interpreter on the CPU, or on the device that `tests/gpu` names."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from compress.kernels.backend import KernelBackend

DEVICE = os.environ.get("ADAPTERS_TEST_DEVICE", "cpu")

#: Where torch or Triton is not installed there is nothing to run.
collect_ignore_glob = [] if find_spec("torch") and find_spec("triton") else ["test_*.py"]


@pytest.fixture
def device() -> str:
    """Name the device that kernels run on."""
    return DEVICE


@pytest.fixture
def kernels() -> KernelBackend:
    """Give the kernels as a backend."""
    from compress.kernels.backend import KernelBackend

    return KernelBackend(DEVICE)
