"""Check the method that keeps every bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compress import Lossless, compress_adapter, decompress, inspect
from compress.container_read import TernFile
from compress.errors import TernDamagedError
from compress.tensor_file import TensorFile
from tests.compress.rate_distortion import made

Array = NDArray[Any]
WEIGHTS = "adapter_model.safetensors"
TYPES = [
    np.float64,
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint8,
    np.bool_,
]


def every_type() -> dict[str, Array]:
    """Make a tensor of random bits of every type, NaN and infinity among them, and odd shapes."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {}
    for number, dtype in enumerate(TYPES):
        size = np.dtype(dtype).itemsize
        raw = rng.integers(0, 2 if dtype is np.bool_ else 256, 15 * 7 * size, dtype=np.uint8)
        tensors[f"l.{number}.lora_A.weight"] = raw.view(dtype).reshape(15, 7)
    tensors["scalar"] = np.array(3.5, np.float32)
    tensors["empty"] = np.empty((0, 4), np.float16)
    tensors["nan"] = np.array([np.nan, -0.0, np.inf], np.float32)
    return tensors


def test_every_bit_of_every_type_comes_back(tmp_path: Path) -> None:
    tensors = every_type()
    save_file(tensors, tmp_path / "x.safetensors", {"note": "kept"})
    report = compress_adapter(tmp_path / "x.safetensors", tmp_path / "x.tern", method=Lossless())
    decompress(tmp_path / "x.tern", tmp_path / "back.safetensors")
    with (
        TensorFile(tmp_path / "x.safetensors") as before,
        TensorFile(tmp_path / "back.safetensors") as after,
    ):
        assert {n: (i.dtype, i.shape) for n, i in after.tensors.items()} == {
            n: (i.dtype, i.shape) for n, i in before.tensors.items()
        }
        for key, value in tensors.items():
            assert after.read_bytes(key) == value.tobytes(), key
    assert report.method == "lossless"
    with TernFile(tmp_path / "x.tern") as tern:
        assert tern.index.metadata == {"note": "kept"}


def test_the_report_tells_everything_as_exact(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors())
    report = compress_adapter(source, tmp_path / "x.tern", method=Lossless())
    assert set(report.exact_tensors) == set(made.factors())


def test_an_adapter_comes_back_with_its_config(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors())
    report = compress_adapter(source, tmp_path / "x.tern", method=Lossless())
    decompress(tmp_path / "x.tern", tmp_path / "back")
    for key, value in load_file(source / WEIGHTS).items():
        assert load_file(tmp_path / "back" / WEIGHTS)[key].tobytes() == value.tobytes()
    config = tmp_path / "back" / "adapter_config.json"
    assert config.read_bytes() == (source / "adapter_config.json").read_bytes()
    assert json.loads(config.read_text())["r"] == 8
    assert not report.erased
    assert report.size.total == (tmp_path / "x.tern").stat().st_size
    assert report.size.total < (source / WEIGHTS).stat().st_size
    assert inspect(tmp_path / "x.tern").properties["method"] == "lossless"


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(modules=1, rank=2, sizes=(9, 8)))
    compress_adapter(source, tmp_path / "x.tern", method=Lossless())
    data = (tmp_path / "x.tern").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for at in range(start, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        (tmp_path / "y.tern").write_bytes(changed)
        with pytest.raises(TernDamagedError):
            TernFile(tmp_path / "y.tern")


@pytest.mark.parametrize("name", ["gpt2-gurvineet-epoch1", "sd-disney-cloneofsimo"])
def test_real_adapters_take_less_than_with_zstandard(
    name: str, test_data: Path, tmp_path: Path
) -> None:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    source = test_data / "adapters" / name
    if not source.is_dir():
        pytest.skip(f"no adapter at {source}")
    report = compress_adapter(source, tmp_path / "x.tern", method=Lossless())
    (weights,) = source.glob("*.safetensors")
    packed = len(zstandard.ZstdCompressor(level=19).compress(weights.read_bytes()))
    assert report.size.total < packed
