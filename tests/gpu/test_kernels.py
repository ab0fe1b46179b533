"""Run the tests of the kernels on a GPU, where there is one.

They run in a process of their own, because Triton chooses between interpreter and compiler when a
kernel's module is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "compress" / "kernels"


def require_gpu() -> None:
    """Skip where there is no GPU that torch can use."""
    if not (find_spec("torch") and find_spec("triton")):
        pytest.skip("torch or Triton is not installed")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


def test_kernels_on_the_device(tmp_path: Path) -> None:
    require_gpu()
    environment = dict(os.environ) | {"ADAPTERS_TEST_DEVICE": "cuda"}
    environment.pop("TRITON_INTERPRET", None)
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(TESTS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_full_segments_decode_on_the_device() -> None:
    """Sizes that take the interpreter too long: whole segments in both layouts."""
    require_gpu()
    code = """
import numpy as np
from compress import backend, entropy
rng = np.random.default_rng(0)
trits = (rng.random((1 << 24) + 777) < 0.2).astype(np.int8)
trits[rng.random(len(trits)) < 0.1] *= -1
pieces = [trits[: 1 << 24], trits[1 << 24 :]]
gpu, cpu = backend.choose("cuda"), backend.choose("cpu")
for grouped in (False, True):
    segments = [entropy.encode_segment(piece, grouped=grouped) for piece in pieces]
    for found, piece in zip(
        gpu.decode_values(segments, scales=[0.5, 0.25], dtype="BF16"), pieces
    ):
        scale = 0.5 if len(piece) == 1 << 24 else 0.25
        np.testing.assert_array_equal(found.float().cpu().numpy(), piece * np.float32(scale))
    for found, expected in zip(gpu.decode_masks(segments), cpu.decode_masks(segments)):
        for name in ("positive", "negative"):
            bits = getattr(found, name).cpu().numpy().view(np.uint32)
            np.testing.assert_array_equal(bits, getattr(expected, name))
values = rng.normal(size=20_000_003).astype(np.float32)
for rank in (1, 4_000_000, 16_000_000, len(values)):
    found, expected = gpu.survey(values, rank), cpu.survey(values, rank)
    assert (found.threshold_bits, found.above, found.ties) == (
        expected.threshold_bits,
        expected.above,
        expected.ties,
    )
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
