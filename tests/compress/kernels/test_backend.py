"""Check the choice by device, and that nobody pays for a GPU who asks for none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import compress
from compress import backend
from compress.errors import OptionError
from compress.kernels.backend import KernelBackend, on_gpu
from compress.kernels.tensors import KINDS, on_device
from compress.numpy_backend import NumpyBackend

ROOT = Path(compress.__file__).resolve().parent.parent


@pytest.mark.parametrize("absent", ["torch", "triton", "compress.kernels"])
def test_the_cpu_needs_neither_torch_nor_kernels(absent: str) -> None:
    code = (
        "import sys; from compress import backend; backend.choose('cpu');"
        f"sys.exit({absent!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_without_the_programs_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["triton"] = None
from compress import backend
from compress.errors import OptionError
try:
    backend.choose("cuda")
except OptionError as error:
    sys.exit(0 if "extra 'gpu'" in str(error) else 1)
sys.exit(2)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_cpu_is_the_default() -> None:
    assert isinstance(backend.choose(), NumpyBackend)


@pytest.mark.parametrize("device", ["", "gpu", "CUDA", "cpu:0", "mps"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(OptionError, match="unknown"):
        backend.choose(device)


def test_an_absent_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="no GPU"):
        backend.choose("cuda")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_gets_the_kernels(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert isinstance(backend.choose(device), KernelBackend)


@pytest.mark.parametrize("device", ["cuda:2", "cuda:", "cuda:x", "cuda:-1", "cuda:01"])
def test_a_gpu_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match="cuda:1"):
        on_gpu(device)


def test_kernels_and_numpy_offer_the_same() -> None:
    names = {name for name in vars(backend.Backend) if not name.startswith("_")}
    assert len(names) == 12
    for kind in (KernelBackend, NumpyBackend):
        assert names == {name for name in vars(kind) if not name.startswith("_")}


def test_tensors_and_arrays_are_taken_alike(kernels: KernelBackend, device: str) -> None:
    array = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    tensor = torch.from_numpy(array.copy()).to(device)
    for values in (array, array[:, ::2], array.T):
        twin = torch.from_numpy(values.copy()).to(device)
        flat = values.reshape(-1)
        assert kernels.survey(twin, 7) == kernels.survey(flat, 7) == kernels.survey(values, 7)
    levels = torch.ones(150, dtype=torch.int8)
    sums, _ = kernels.level_sums(levels, tensor)
    assert float(sums[129]) == pytest.approx(float(array.sum(dtype=np.float64)), rel=1e-9)


def test_read_only_arrays_are_taken(device: str) -> None:
    values = np.frombuffer(np.arange(4, dtype=np.float32).tobytes(), np.float32)
    assert on_device(values, device).tolist() == [0, 1, 2, 3]


def test_too_many_values_are_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.kernels import tensors

    monkeypatch.setattr(tensors, "MAX_ELEMENTS", 3)
    with pytest.raises(OptionError, match="too many"):
        on_device(np.zeros(4, np.float32), device)


@pytest.mark.parametrize("dtype", list(KINDS))
def test_patterns_mean_what_kernels_take_them_for(dtype: torch.dtype) -> None:
    kind = KINDS[dtype]
    infinity = torch.tensor([float("inf")]).to(dtype).view(kind.bits)
    negative = torch.tensor([-0.0]).to(dtype).view(kind.bits)
    assert int(infinity) == kind.infinity
    assert int(negative) & kind.magnitude == 0
    assert int(negative) == -kind.magnitude - 1
