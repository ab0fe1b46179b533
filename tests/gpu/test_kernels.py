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


def run_on_device(code: str) -> None:
    """Run a program in a process of its own, with compiled kernels."""
    require_gpu()
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


def test_full_layers_decode_on_the_device() -> None:
    """Lanes by thousands, in both layouts, several segments and every type that has a kernel."""
    run_on_device("""
import numpy as np
from dataclasses import replace
from compress import backend
from tests.compress.kernels.plane_segments import Module, coded_segment
energies = tuple(range(24, 0, -2))
types = [("BF16", "BF16"), ("F16", "F32"), ("F32", "F16")]
modules = [Module((11008, 4096), energies, rank=16, dtypes=dtypes) for dtypes in types]
modules += [Module((4097, 2047), energies, rank=65), Module((30011,), (13,), dtypes=("BF16",))]
gpu, cpu = backend.choose("cuda"), backend.choose("cpu")
for lanes, grouped in ((8192, True), (4096, True), (1000, False), (129, False)):
    whole = coded_segment(modules, lanes=lanes, grouped=grouped)
    segments = [whole, replace(whole, blocks=whole.blocks[:2]), whole]
    pairs = zip(gpu.decode_layers(segments), cpu.decode_layers(segments), strict=True)
    for found, expected in pairs:
        assert gpu.on_host(found).tobytes() == expected.tobytes()
    both = gpu.decode_layer_masks([whole]), cpu.decode_layer_masks([whole])
    for found, expected in zip(both[0][0], both[1][0], strict=True):
        for name in ("positive", "negative"):
            bits = getattr(found, name).cpu().numpy().view(np.uint32)
            np.testing.assert_array_equal(bits, getattr(expected, name))
""")


def test_adapters_are_decoded_together_on_the_device(tmp_path: Path, examples: Path) -> None:
    """Real files of both methods: the same tensors in memory and the same folders on disk."""
    run_on_device(f"""
from pathlib import Path
import torch
from compress import Compeft, Rd, compress_adapter, decode_tensors, decompress
work, sources = Path({str(tmp_path)!r}), sorted(Path({str(examples)!r}).iterdir())
files = []
for number, source in enumerate(sources):
    for method in (Rd(bits=0.5), Compeft()):
        name = f"{{number}}-{{type(method).__name__}}"
        for device in ("cpu", "cuda"):
            path = work / f"{{name}}-{{device}}.tern"
            compress_adapter(source, path, method=method, device=device)
        files.append(work / f"{{name}}-cpu.tern")
        assert files[-1].read_bytes() == (work / f"{{name}}-cuda.tern").read_bytes()
for there, here in zip(decode_tensors(files, device="cuda"), decode_tensors(files), strict=True):
    assert there.keys() == here.keys()
    for name, values in there.items():
        assert values.is_cuda and tuple(values.shape) == here[name].shape
        assert values.view(-1).view(torch.uint8).cpu().numpy().tobytes() == here[name].tobytes()
for file in files:
    for device in ("cpu", "cuda"):
        decompress(file, work / f"{{file.stem}}-{{device}}", device=device)
    here, there = (work / f"{{file.stem}}-{{device}}" for device in ("cpu", "cuda"))
    weights = "adapter_model.safetensors"
    assert (here / weights).read_bytes() == (there / weights).read_bytes()
""")


def test_full_segments_decode_on_the_device() -> None:
    """Sizes that take the interpreter too long: whole segments in both layouts."""
    run_on_device("""
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
""")
