"""Change, cut and extend `.tern` files at every place: an error, never other weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compress import Compeft, TernError, compress_adapter, decompress, inspect
from compress.container_read import TernFile
from compress.errors import TernDamagedError, TernVersionError


@pytest.fixture(scope="module")
def tern(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make the bytes of a small compressed adapter with a head and a config."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[Any]] = {
        "base_model.model.l.0.q.lora_A.weight": rng.normal(size=(2, 12)).astype(np.float32),
        "base_model.model.l.0.q.lora_B.weight": rng.normal(size=(12, 2)).astype(np.float16),
        "base_model.model.score.weight": rng.normal(size=(2, 5)).astype(np.float32),
    }
    (folder / "a").mkdir()
    save_file(tensors, folder / "a" / "adapter_model.safetensors", {"format": "pt"})
    (folder / "a" / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "lora_alpha": 4, "r": 2}'
    )
    compress_adapter(folder / "a", folder / "x.tern", method=Compeft(0.3))
    return (folder / "x.tern").read_bytes()


def refused(path: Path, raw: bytes, work: Path) -> TernError:
    """Check that a file is refused, and that nothing is left behind; give the error."""
    path.write_bytes(raw)
    with pytest.raises(TernError) as caught:
        decompress(path, work / "out")
    assert not (work / "out").exists()
    assert caught.value.file == path.name
    assert str(caught.value)
    return caught.value


def test_the_file_itself_is_good(tern: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tern").write_bytes(tern)
    decompress(tmp_path / "x.tern", tmp_path / "out")
    assert len(load_file(tmp_path / "out" / "adapter_model.safetensors")) == 3


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_changed_byte_is_refused(mask: int, tern: bytes, tmp_path: Path) -> None:
    for at in range(len(tern)):
        changed = bytearray(tern)
        changed[at] ^= mask
        refused(tmp_path / "x.tern", bytes(changed), tmp_path)


def test_every_length_is_refused(tern: bytes, tmp_path: Path) -> None:
    for length in range(len(tern)):
        refused(tmp_path / "x.tern", tern[:length], tmp_path)


@pytest.mark.parametrize("tail", [b"\0", b" ", b"x" * 100])
def test_bytes_behind_the_end_are_refused(tail: bytes, tern: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "x.tern", tern + tail, tmp_path)


def test_padding_is_covered_too(tern: bytes, tmp_path: Path) -> None:
    """Move a space of the header: the JSON means the same, the file is another one."""
    length = int.from_bytes(tern[:8], "little")
    header = tern[8 : 8 + length].rstrip()
    shifted = header.replace(b":", b": ", 1)
    raw = (8 * (-(-len(shifted) // 8))).to_bytes(8, "little")
    raw += shifted + b" " * (-len(shifted) % 8) + tern[8 + length :]
    error = refused(tmp_path / "x.tern", raw, tmp_path)
    assert error.field == "seal"


def test_swapped_blocks_are_refused(tern: bytes, tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(200):
        a, b = sorted(rng.sample(range(len(tern)), 2))
        size = min(8, b - a, len(tern) - b)
        changed = bytearray(tern)
        changed[a : a + size], changed[b : b + size] = tern[b : b + size], tern[a : a + size]
        if bytes(changed) != tern:
            refused(tmp_path / "x.tern", bytes(changed), tmp_path)


def test_doubled_and_dropped_pieces_are_refused(tern: bytes, tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(100):
        a, b = sorted(rng.sample(range(len(tern)), 2))
        refused(tmp_path / "x.tern", tern[:b] + tern[a:], tmp_path)
        refused(tmp_path / "x.tern", tern[:a] + tern[b:], tmp_path)


@pytest.mark.parametrize("size", [0, 1, 8, 100, 5000])
@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"{", b" "])
def test_noise_is_refused(size: int, filling: bytes, tmp_path: Path) -> None:
    error = refused(tmp_path / "x.tern", filling * size, tmp_path)
    assert isinstance(error, TernDamagedError)


def test_an_ordinary_safetensors_file_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"x": np.ones(3, np.float32)}, tmp_path / "x.tern", {"format": "pt"})
    with pytest.raises(TernVersionError) as caught:
        decompress(tmp_path / "x.tern", tmp_path / "out")
    assert caught.value.expected == "tern"
    assert caught.value.actual == "pt"


def test_inspecting_refuses_what_decoding_refuses(tern: bytes, tmp_path: Path) -> None:
    for at in range(len(tern) // 2, len(tern), 11):
        changed = bytearray(tern)
        changed[at] ^= 4
        (tmp_path / "x.tern").write_bytes(changed)
        with pytest.raises(TernError):
            inspect(tmp_path / "x.tern")


def test_files_are_closed_after_a_refusal(tern: bytes, tmp_path: Path) -> None:
    """An open file would warn when it is collected, and warnings are errors."""
    import gc

    changed = bytearray(tern)
    changed[-1] ^= 1
    (tmp_path / "x.tern").write_bytes(changed)
    for _ in range(3):
        with pytest.raises(TernDamagedError):
            TernFile(tmp_path / "x.tern")
    gc.collect()
