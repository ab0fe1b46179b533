"""Read tensors that lie in one safetensors file or in several shards as if they lay in one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compress.dtypes import Array
from compress.errors import PickleRefusedError, SourceError
from compress.tensor_file import TensorFile, TensorInfo
from compress.trit_rows import TernaryTensor

INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
_MAX_INDEX_BYTES = 64 << 20
_HASH_CHUNK_BYTES = 1 << 20


class Weights:
    """Hold open safetensors files and find each tensor's file.

    Attributes:
        tensors: every tensor by name, names in alphabetical order.
        metadata: the `__metadata__` of the first file.
        size_bytes: all files together.
    """

    def __init__(self, files: Sequence[TensorFile]) -> None:
        self._files = files
        self._home: dict[str, TensorFile] = {}
        self._sha256 = ""
        for file in files:
            for name in file.tensors:
                if name in self._home:
                    raise SourceError("a tensor lies in two files", file=file.path.name, field=name)
                self._home[name] = file
        self.tensors = {name: self._home[name].tensors[name] for name in sorted(self._home)}
        self.metadata = files[0].metadata
        self.size_bytes = sum(file.size_bytes for file in files)

    def info(self, name: str) -> TensorInfo:
        """Describe one tensor."""
        return self.tensors[name]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read elements [start, stop) of a floating tensor, flat, in its storage type."""
        return self._home[name].read(name, start, stop)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes [start, stop) of any tensor."""
        return self._home[name].read_bytes(name, start, stop)

    def ternary(self, name: str) -> TernaryTensor | None:
        """Give a tensor as trits, in any shape of rows, where it is stored as such."""
        del name
        return None

    def file_of(self, name: str) -> str:
        """Give the name of the file that holds a tensor."""
        return self._home[name].path.name

    def sha256(self) -> str:
        """Compute the sha256 of the file, or of the shards' own sha256 in order of their names."""
        if not self._sha256:
            self._sha256 = self._compute_sha256()
        return self._sha256

    def _compute_sha256(self) -> str:
        digests = [file_sha256(file.path) for file in self._files]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@contextmanager
def open_weights(paths: Sequence[Path]) -> Iterator[Weights]:
    """Open one or several safetensors files for reading.

    Raises:
        SourceError: a file is absent or not well formed.
        PickleRefusedError: a file is a pickle.
    """
    files: list[TensorFile] = []
    try:
        for path in sorted(paths):
            refuse_pickle(path)
            files.append(TensorFile(path))
        yield Weights(files)
    finally:
        for file in files:
            file.close()


def find_model_files(path: Path) -> list[Path]:
    """Find the safetensors files of a model: the file itself, the folder's one, or its shards.

    Raises:
        SourceError: there are none, or the index of the shards is not valid.
        PickleRefusedError: there are only pickles.
    """
    if path.is_file():
        return _shards(path) if path.name.endswith(INDEX_SUFFIX) else [path]
    single, index = path / "model.safetensors", path / f"model{INDEX_SUFFIX}"
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(index)
    return [sole_safetensors(path)]


def sole_safetensors(folder: Path) -> Path:
    """Find the only safetensors file of a folder.

    Raises:
        SourceError: there is none or more than one.
        PickleRefusedError: there are only pickles.
    """
    if not folder.is_dir():
        raise SourceError("no such file or folder", file=str(folder))
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if not found:
        for path in sorted(folder.iterdir()):
            refuse_pickle(path)
    raise SourceError(
        "the weights are not clear",
        file=folder.name,
        expected="one .safetensors file",
        actual=f"{len(found)}",
        hint="name the file itself" if found else "fetch the weights, they are absent",
    )


def refuse_pickle(path: Path) -> None:
    """Raise for a file whose name says that it is a pickle; it is not opened."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise PickleRefusedError(
            "the weights are a pickle, which can run code when it is opened",
            file=path.name,
            expected="safetensors",
            actual=path.suffix,
            hint="convert it where it came from: safetensors.torch.save_file("
            "torch.load(path, weights_only=True), 'adapter_model.safetensors')",
        )


def _shards(index: Path) -> list[Path]:
    if index.stat().st_size > _MAX_INDEX_BYTES:
        raise SourceError("the index of shards is too large", file=index.name)
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError("the index of shards cannot be read", file=index.name) from error
    for name in names:
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not (index.parent / name).is_file()
        ):
            raise SourceError(
                "a shard is absent", file=index.name, field="weight_map", actual=str(name)[:80]
            )
    return [index.parent / name for name in sorted(names)]


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
