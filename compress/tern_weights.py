"""Read the tensors of a `compeft` file from its bit masks, one at a time, as if it were decoded.

Two bits a parameter stay in memory; a tensor of floats is made when it is asked for, with the bits
that decoding the file would give. So many compressed experts are merged in the memory of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from compress import container
from compress.adapter import WEIGHTS_NAME, LoraSettings, Source, SourceKind, parse_settings
from compress.container import Stored
from compress.container_read import TernFile
from compress.dtypes import WEIGHT_DTYPES, Array
from compress.errors import SourceError
from compress.places import find_tern
from compress.resident import kept_tensors
from compress.restore import restore
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo
from compress.trit_rows import TernaryTensor, TritRows, pack_rows, unpack_rows
from compress.weights import Weights, file_sha256


class TernWeights(Weights):
    """Hold the tensors of a `compeft` file.

    Attributes:
        tensors: every tensor by name, as the decoded file has them.
        metadata: that of the decoded file: nothing.
        size_bytes: of the compressed file.
    """

    def __init__(self, tern: TernFile) -> None:
        self._path = tern.path
        self.size_bytes = tern.size_bytes
        self.metadata = {}
        self.tensors = {t.info.name: t.info for t in sorted(tern.index.tensors, key=_name)}
        reader = tern.trit_reader()
        self._coded: dict[str, tuple[Stored, TritRows, float]] = {}
        for tensor in tern.index.coded:
            rows = pack_rows(reader.read(tensor.info.size).reshape(1, -1))
            self._coded[tensor.info.name] = tensor, rows, tern.index.scales[tensor.group]
        self._kept: dict[str, tuple[TensorInfo, Array]] = {
            info.name: (info, values) for info, values in kept_tensors(tern)
        }

    def ternary(self, name: str) -> TernaryTensor | None:
        """Give a tensor as trits [1, elements] and their scale, if it is one."""
        if name not in self._coded:
            return None
        tensor, rows, scale = self._coded[name]
        if tensor.initial is not Initial.ZERO:
            return None
        one = restore(np.ones(1, np.int8), tensor, scale)
        return TernaryTensor(rows, float(one[0]))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read elements [start, stop) of a floating tensor, flat, in its storage type."""
        if name in self._coded:
            tensor, rows, scale = self._coded[name]
            return restore(unpack_rows(rows)[0], tensor, scale)[start:stop]
        info, values = self._kept[name]
        if info.dtype not in WEIGHT_DTYPES:
            raise SourceError(
                "the tensor does not hold floating-point numbers", file=str(self._path), field=name
            )
        return values.reshape(-1)[start:stop]

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes [start, stop) of any tensor."""
        values = self.read(name) if name in self._coded else self._kept[name][1]
        return values.tobytes()[start:stop]

    def file_of(self, name: str) -> str:
        """Give the name of the file that holds a tensor."""
        del name
        return self._path.name

    def sha256(self) -> str:
        """Compute the sha256 of the compressed file."""
        return file_sha256(self._path)


@contextmanager
def open_ternary(path: Path) -> Iterator[Source]:
    """Open a `compeft` file, or a folder with one, for reading from its masks.

    Raises:
        TernError: it is damaged or unknown.
        SourceError: its config is not valid, or it must be decoded to be read.
    """
    with TernFile(find_tern(path)) as tern:
        if tern.method == container.RD or _changes_a_base(tern):
            raise SourceError(
                "this is compressed in a way that cannot be read tensor by tensor",
                file=tern.path.name,
                expected="trits of an adapter",
                actual=tern.method,
                hint="decompress it first",
            )
        config = tern.index.config
        weights = TernWeights(tern)
    yield Source(
        kind=SourceKind.PEFT if config else SourceKind.RAW,
        weights=weights,
        weights_name=WEIGHTS_NAME,
        config=config,
        settings=parse_settings(config) if config else LoraSettings(),
    )


def is_ternary_lora(path: Path) -> bool:
    """Say whether a `.tern` is a `compeft` file of an adapter, which can be read from its masks.

    Raises:
        TernError: it is damaged or unknown.
    """
    with TernFile(find_tern(path)) as tern:
        told = tern.method == container.COMPEFT and bool(tern.index.config)
        return told and not _changes_a_base(tern)


def _changes_a_base(tern: TernFile) -> bool:
    return any(tensor.initial is Initial.BASE for tensor in tern.index.coded)


def _name(tensor: Stored) -> str:
    return tensor.info.name
