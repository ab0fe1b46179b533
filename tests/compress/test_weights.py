"""Check finding and reading weights in one file or in shards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from compress.errors import PickleRefusedError, SourceError
from compress.weights import find_model_files, open_weights, refuse_pickle, sole_safetensors


def save(path: Path, **tensors: int) -> Path:
    """Write a file of vectors of the given lengths."""
    save_file({name: np.arange(size, dtype=np.float32) for name, size in tensors.items()}, path)
    return path


def save_shards(folder: Path) -> Path:
    """Write two shards and their index."""
    save(folder / "model-1.safetensors", b=3, c=4)
    save(folder / "model-2.safetensors", a=5)
    index = {
        "weight_map": {
            "a": "model-2.safetensors",
            "b": "model-1.safetensors",
            "c": "model-1.safetensors",
        }
    }
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return path


def test_shards_read_as_one(tmp_path: Path) -> None:
    save_shards(tmp_path)
    with open_weights(find_model_files(tmp_path)) as weights:
        assert list(weights.tensors) == ["a", "b", "c"]
        assert weights.read("a", 1, 3).tolist() == [1, 2]
        assert weights.file_of("c") == "model-1.safetensors"
        assert weights.read_bytes("b") == np.arange(3, dtype=np.float32).tobytes()
        assert weights.size_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.safetensors"))


def test_the_index_itself_can_be_named(tmp_path: Path) -> None:
    index = save_shards(tmp_path)
    assert [path.name for path in find_model_files(index)] == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]


def test_a_single_file_comes_before_shards(tmp_path: Path) -> None:
    save_shards(tmp_path)
    single = save(tmp_path / "model.safetensors", a=1)
    assert find_model_files(tmp_path) == [single]
    assert find_model_files(single) == [single]


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / "1.safetensors", a=1), save(tmp_path / "2.safetensors", a=2)]
    with pytest.raises(SourceError, match="two files"), open_weights(paths):
        pass


@pytest.mark.parametrize(
    "index",
    [
        "not json",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": "absent.safetensors"}}',
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": 5}}',
    ],
)
def test_bad_indexes_are_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(SourceError):
        find_model_files(tmp_path)


def test_the_digest_of_one_file_is_its_sha256(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", a=10)
    with open_weights([path]) as weights:
        assert weights.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_digest_of_shards_follows_every_shard(tmp_path: Path) -> None:
    save_shards(tmp_path)
    with open_weights(find_model_files(tmp_path)) as weights:
        before = weights.sha256()
    save(tmp_path / "model-2.safetensors", a=6)
    with open_weights(find_model_files(tmp_path)) as weights:
        assert weights.sha256() != before


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".PICKLE", ".joblib"])
def test_pickles_are_refused_unopened(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"adapter_model{suffix}"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(PickleRefusedError) as caught:
        refuse_pickle(path)
    assert "save_file" in caught.value.hint
    with pytest.raises(PickleRefusedError):
        sole_safetensors(tmp_path)
    with pytest.raises(PickleRefusedError), open_weights([path]):
        pass


@pytest.mark.parametrize("count", [0, 2])
def test_unclear_folders_are_refused(count: int, tmp_path: Path) -> None:
    for number in range(count):
        save(tmp_path / f"{number}.safetensors", a=1)
    with pytest.raises(SourceError) as caught:
        sole_safetensors(tmp_path)
    assert caught.value.actual == str(count)


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent"):
        sole_safetensors(tmp_path / "absent")


def test_files_are_closed_when_a_later_one_is_bad(tmp_path: Path) -> None:
    good = save(tmp_path / "1.safetensors", a=1)
    bad = tmp_path / "2.safetensors"
    bad.write_bytes(b"nonsense")
    with pytest.raises(SourceError), open_weights([good, bad]):
        pass
