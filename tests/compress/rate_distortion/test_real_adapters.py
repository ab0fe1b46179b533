"""Hold the method to its figures on a few real adapters; the benchmark measures all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress import Rd, compress_adapter, decompress, inspect

#: One with a head, one of float16, and one of less than 200,000 parameters.
ADAPTERS = [
    ("experts/sst2", 0.25),
    ("experts/sst2", 2.0),
    ("adapters/sd-disney-cloneofsimo", 0.5),
    ("adapters/sd-disney-cloneofsimo", 2.0),
    ("adapters/gpt2-gurvineet-epoch1", 1.0),
    ("adapters/distilbert-selfheal-raghava", 0.25),
]
MILLION = 1_000_000


@pytest.mark.parametrize(("name", "bits"), ADAPTERS)
def test_size_and_error_are_near_their_bounds(
    name: str, bits: float, test_data: Path, tmp_path: Path
) -> None:
    source = test_data / name
    if not source.is_dir():
        pytest.skip(f"no adapter at {source}")
    report = compress_adapter(source, tmp_path / "x.tern", method=Rd(bits=bits))
    share = 1.01 if report.parameters > MILLION else 1.03
    assert report.size.lossy <= share * report.shannon_bytes + 1024
    assert report.bits_per_param <= bits
    assert report.delta_error is not None
    assert report.error_bound is not None
    assert report.delta_error <= 1.2 * report.error_bound
    assert not report.erased
    decompress(tmp_path / "x.tern", tmp_path / "back")
    found = inspect(tmp_path / "back", against=source)
    assert found.delta_error == pytest.approx(report.delta_error, rel=1e-3)
    assert not found.erased
