"""Check what must not matter: the gauge of the factors, the scale of ΔW, the time of day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress import Rd, compress_adapter, decompress
from compress.container import LAYERS
from compress.container_read import TernFile
from compress.reports import CompressionReport
from tests.compress.rate_distortion import made
from tests.compress.rate_distortion.made import Tensors

METHOD = Rd(bits=1.0)


def turned(tensors: Tensors, seed: int) -> Tensors:
    """Put a random, well-conditioned matrix and its inverse between the factors of every module."""
    rng = np.random.default_rng(seed)
    other = dict(tensors)
    for key in tensors:
        if "lora_A" not in key:
            continue
        b_key = key.replace("lora_A", "lora_B")
        rank = len(tensors[key])
        q, _ = np.linalg.qr(rng.normal(size=(rank, rank)))
        p, _ = np.linalg.qr(rng.normal(size=(rank, rank)))
        gauge = q @ np.diag(rng.uniform(0.3, 3.0, rank)) @ p
        a, b = tensors[key].astype(np.float64), tensors[b_key].astype(np.float64)
        other[key] = (gauge @ a).astype(np.float32)
        other[b_key] = (b @ np.linalg.inv(gauge)).astype(np.float32)
    return other


def compressed(work: Path, tensors: Tensors, **config: object) -> CompressionReport:
    """Compress to `x.tern` in a new folder, and back."""
    source = made.save(work / "source", tensors, **config)
    report = compress_adapter(source, work / "x.tern", method=METHOD)
    decompress(work / "x.tern", work / "back")
    return report


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompressionReport]:
    """Compress the usual adapter."""
    work = tmp_path_factory.mktemp("plain")
    return work, compressed(work, made.factors(rank=16))


def layer_bytes(path: Path) -> bytes:
    """Read the layers of a file."""
    with TernFile(path) as tern:
        return tern.part(LAYERS)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_gauge_does_not_matter(
    seed: int, plain: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, before = plain
    after = compressed(tmp_path, turned(made.factors(rank=16), seed))
    assert (after.delta_error or 0) == pytest.approx(before.delta_error, rel=0.01)
    assert after.size.lossy == pytest.approx(before.size.lossy, rel=0.01)
    gap = made.error(made.deltas(work / "back"), made.deltas(tmp_path / "back"))
    assert gap < 0.5 * (before.delta_error or 0)


@pytest.mark.parametrize("power", [-20, 10])
def test_the_scale_hardly_matters_for_bits(
    power: int, plain: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, before = plain
    scaled = {
        key: value * np.float32(2.0**power) if "lora_B" in key else value
        for key, value in made.factors(rank=16).items()
    }
    after = compressed(tmp_path, scaled)
    assert (after.delta_error or 0) == pytest.approx(before.delta_error, rel=1e-3)
    assert after.size.lossy == pytest.approx(before.size.lossy, abs=24)
    decoded = made.deltas(work / "back")
    expected = {name: value * 2.0**power for name, value in decoded.items()}
    assert made.error(expected, made.deltas(tmp_path / "back")) < 0.02


def test_with_one_step_the_layers_are_the_same_bytes_at_any_scale(tmp_path: Path) -> None:
    """Powers of two change nothing but the unit, whether B has them or alpha."""
    plain = made.save(tmp_path / "plain", made.factors(rank=16))
    louder = made.save(tmp_path / "louder", made.factors(rank=16), lora_alpha=64 * 32)
    halved = {
        key: value / np.float32(4) if "lora_B" in key else value
        for key, value in made.factors(rank=16).items()
    }
    quieter = made.save(tmp_path / "quieter", halved)
    written = []
    for source in (plain, louder, quieter):
        path = tmp_path / f"{source.name}.tern"
        compress_adapter(source, path, method=Rd(layers=3))
        written.append(layer_bytes(path))
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("amount", [1e-30, 1e15])
def test_extreme_magnitudes_are_no_exception(amount: float, tmp_path: Path) -> None:
    scaled = {key: value * np.float32(amount) for key, value in made.factors(modules=3).items()}
    report = compressed(tmp_path, scaled)
    assert (report.delta_error or 1) < 0.9
    assert not report.erased


def test_the_result_is_the_same_to_the_byte(
    plain: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, _ = plain
    shuffled = dict(reversed(made.factors(rank=16).items()))
    compressed(tmp_path, shuffled)
    assert (tmp_path / "x.tern").read_bytes() == (work / "x.tern").read_bytes()
