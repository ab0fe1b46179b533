"""Open a `.tern` file, check all of it, and give its trits and exact bytes in pieces.

Nothing that the file claims is believed before it is checked: the seal over every byte, the
structure of the index, that the streams hold exactly as many trits and bytes as the index needs,
and that the result is no larger than the caller allows. Only then is memory used, one segment or
block at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from compress import container, entropy, exact_blocks
from compress.container import EXACT, HEADS, INDEX, LAYERS, SEAL_BYTES, TRITS
from compress.dtypes import Array
from compress.errors import (
    OptionError,
    SourceError,
    TernDamagedError,
    TernTooLargeError,
    TernVersionError,
)
from compress.layers import DIGEST_BYTES, Layers
from compress.tensor_file import TensorFile

DEFAULT_MAX_DECODED_BYTES = 64 << 30
_HASH_BYTES = 1 << 20
#: Trits come in a run for every role: exact has none, but the first files counted it.
_TRIT_RUNS = 4
_PARTS = {
    container.COMPEFT: (INDEX, TRITS, EXACT),
    container.LOSSLESS: (INDEX, EXACT),
    container.RD: (INDEX, EXACT, HEADS, LAYERS),
}


class TernFile:
    """Hold an opened and checked `.tern` file.

    Attributes:
        metadata: its `__metadata__`.
        index: what it holds.
        part_bytes: size of header, index, trits and exact in bytes.
        layer_count: how many layers are there to decode, 0 for a method without layers.

    A file with layers may end after any of them if `layers` says that so few are wanted.

    Raises:
        TernDamagedError: it is not whole.
        TernVersionError: it is of a version or method that is not understood.
        TernTooLargeError: it decodes to more than `max_decoded_bytes`.
        OptionError: fewer than one layer is wanted.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
        layers: int | None = None,
    ) -> None:
        self.path = path
        if layers is not None and layers < 1:
            raise OptionError(
                "so few layers are nothing",
                field="layers",
                expected="1 or more",
                actual=str(layers),
            )
        self._wanted_layers = layers
        self._file = _open(path, cut=layers is not None)
        with ExitStack() as opened:
            opened.callback(self._file.close)
            try:
                self._check(max_decoded_bytes)
            except TernDamagedError as error:
                error.file = path.name
                raise
            opened.pop_all()

    @property
    def size_bytes(self) -> int:
        """Count the bytes of the whole file."""
        return self._file.size_bytes

    @property
    def part_bytes(self) -> dict[str, int]:
        """Count the bytes of the header, of index, trits and exact."""
        sizes = {name: info.size_bytes for name, info in self._file.tensors.items()}
        parts = dict.fromkeys((INDEX, TRITS, EXACT, HEADS, LAYERS), 0)
        return {"header": self._file.data_start, **parts, **sizes}

    @property
    def method(self) -> str:
        """Name the method that the file was made with."""
        return self.metadata["method"]

    def trit_segments(self) -> Iterator[bytes]:
        """Read the segments of trits, one after another."""
        for start, stop, _ in self._walk(TRITS, entropy.HEAD_BYTES, _segment_sizes):
            yield self._file.read_bytes(TRITS, start, stop)

    def segments(self) -> Iterator[Array]:
        """Decode the trits, one segment after another."""
        return map(entropy.decode_segment, self.trit_segments())

    def trit_reader(self) -> TritReader:
        """Give the trits in pieces of any size."""
        return TritReader(self.segments())

    def exact_reader(self) -> exact_blocks.ExactReader:
        """Give the exact bytes in pieces of any size."""
        walk = self._walk(EXACT, exact_blocks.HEAD_BYTES, exact_blocks.block_sizes)
        return exact_blocks.ExactReader(
            self._file.read_bytes(EXACT, start, stop) for start, stop, _ in walk
        )

    def part(self, name: str) -> bytes:
        """Read a whole part; one that is absent is empty."""
        return self._file.read_bytes(name) if name in self._file.tensors else b""

    def heads(self) -> bytes:
        """Read the part of the heads that are rounded to few bits."""
        return self.part(HEADS)

    def layer_bytes(self, start: int, stop: int) -> bytes:
        """Read bytes [start, stop) of the layers."""
        return self._file.read_bytes(LAYERS, start, stop)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, max_decoded_bytes: int) -> None:
        self.metadata = self._file.metadata
        self._check_version()
        self.layer_count = 0
        if self._wanted_layers is not None and self.method != container.RD:
            raise OptionError(
                "this file has no layers",
                file=self.path.name,
                field="layers",
                expected=f"the method {container.RD}",
                actual=self.method,
            )
        self._check_parts()
        layered = self.method == container.RD
        self._check_seal(layered=layered)
        body = self._file.read_bytes(INDEX, SEAL_BYTES)
        self.index = container.decode_index(body, layered=layered)
        self._check_size(max_decoded_bytes)
        if self.index.layers is not None:
            self.layer_count = self._check_layers(self.index.layers)
        self._check_streams()

    def _check_version(self) -> None:
        for key, known in (
            ("format", (container.FORMAT,)),
            ("version", container.VERSIONS),
            ("method", container.METHODS),
        ):
            if self.metadata.get(key) not in known:
                raise TernVersionError(
                    f"this is no .tern file of a {key} that is understood",
                    file=self.path.name,
                    field=key,
                    expected=" or ".join(known),
                    actual=str(self.metadata.get(key))[:80],
                    hint="a newer program may have written it" if key != "format" else "",
                )

    def _check_parts(self) -> None:
        found = tuple(self._file.tensors)
        allowed = _PARTS[self.method]
        if found[:1] != (INDEX,) or found != tuple(name for name in allowed if name in found):
            raise TernDamagedError(
                "the parts are not those of a .tern file",
                field="header",
                expected=", ".join(allowed),
                actual=", ".join(found)[:80],
            )
        infos = self._file.tensors.values()
        if any(info.dtype != "U8" or len(info.shape) != 1 for info in infos):
            raise TernDamagedError("a part is not a stream of bytes", field="header")
        if self._file.tensors[INDEX].size_bytes < SEAL_BYTES:
            raise TernDamagedError("the seal is absent", field="index")

    def _check_seal(self, *, layered: bool) -> None:
        digest = hashlib.sha256()
        seal_at = self._file.data_start
        left = self._file.tensors[INDEX].size_bytes - SEAL_BYTES if layered else self.size_bytes
        with self.path.open("rb") as file:
            digest.update(file.read(seal_at))
            seal = file.read(SEAL_BYTES)
            while left and (chunk := file.read(min(_HASH_BYTES, left))):
                digest.update(chunk)
                left -= len(chunk)
        if digest.digest() != seal:
            raise TernDamagedError(
                "the file is damaged: its bytes are not those that its seal was made from",
                field="seal",
                expected=seal.hex()[:16] + "…",
                actual=digest.hexdigest()[:16] + "…",
            )

    def _check_size(self, max_decoded_bytes: int) -> None:
        decoded = sum(tensor.info.size_bytes for tensor in self.index.tensors)
        if decoded > max_decoded_bytes:
            raise TernTooLargeError(
                "the file decodes to more than is allowed",
                file=self.path.name,
                expected=f"at most {max_decoded_bytes} bytes",
                actual=str(decoded),
                hint="raise the limit if the file comes from someone you trust",
            )

    def _check_layers(self, layers: Layers) -> int:
        """Compare every part with its digest; give how many layers there are to decode."""
        others = [name for name in self._file.tensors if name not in {INDEX, LAYERS}]
        found = tuple(self._digest(name, 0, None) for name in others)
        if found != layers.parts:
            raise TernDamagedError("a part is not the one that the index names", field="digest")
        there = self.part_bytes[LAYERS]
        if self._wanted_layers is not None:
            there = min(there, layers.start(self._wanted_layers))
        count = sum(layers.start(number + 1) <= there for number in range(len(layers.sizes)))
        if (self._wanted_layers or 0) > len(layers.sizes):
            raise OptionError(
                "there are not so many layers",
                file=self.path.name,
                field="layers",
                expected=f"1 to {len(layers.sizes)}",
                actual=str(self._wanted_layers),
            )
        if self._wanted_layers is None and layers.start(count) != there:
            raise TernDamagedError(
                "the file does not end after a layer",
                field=LAYERS,
                expected=" or ".join(str(layers.start(n + 1)) for n in range(len(layers.sizes))),
                actual=str(there),
            )
        if count < min(len(layers.sizes), self._wanted_layers or 1):
            raise TernDamagedError(
                "there are fewer layers than are wanted",
                field=LAYERS,
                expected=str(self._wanted_layers or 1),
                actual=str(count),
            )
        for number in range(count):
            stop = layers.start(number + 1)
            if self._digest(LAYERS, layers.start(number), stop) != layers.digests[number]:
                raise TernDamagedError(
                    "a layer is not the one that the index names", field=f"layer {number + 1}"
                )
        return count

    def _digest(self, part: str, start: int, stop: int | None) -> bytes:
        digest = hashlib.sha256()
        stop = self._file.tensors[part].size_bytes if stop is None else stop
        for at in range(start, stop, _HASH_BYTES):
            digest.update(self._file.read_bytes(part, at, min(at + _HASH_BYTES, stop)))
        return digest.digest()[:DIGEST_BYTES]

    def _check_streams(self) -> None:
        """Compare streams and index, and stop as soon as they cannot agree any more."""
        trits = self.index.coded if self.index.layers is None else []
        exact = self.index.exact
        needed = {
            TRITS: container.trit_count(trits),
            EXACT: sum(tensor.info.size_bytes for tensor in exact),
        }
        runs = {TRITS: _TRIT_RUNS, EXACT: len(exact)}
        whole = {TRITS: entropy.MAX_SEGMENT_TRITS, EXACT: exact_blocks.BLOCK_BYTES}
        for part, walk in (
            (TRITS, self._walk(TRITS, entropy.HEAD_BYTES, _segment_sizes)),
            (EXACT, self._walk(EXACT, exact_blocks.HEAD_BYTES, exact_blocks.block_sizes)),
        ):
            found = short = 0
            for *_, size in walk:
                found += size
                short += size < whole[part]
                if short > runs[part]:
                    raise TernDamagedError(
                        "more blocks are cut short than there are runs", field=part
                    )
                if found > needed[part]:
                    break
            if found != needed[part]:
                raise TernDamagedError(
                    f"index and streams contradict each other about {part}",
                    field="index",
                    expected=str(needed[part]),
                    actual=str(found),
                )

    def _walk(
        self, part: str, head_bytes: int, sizes: Callable[[bytes], tuple[int, int]]
    ) -> Iterator[tuple[int, int, int]]:
        """Go from one block of a part to the next: start, stop and decoded size of each."""
        end = self._file.tensors[part].size_bytes if part in self._file.tensors else 0
        start = 0
        while start < end:
            decoded, length = sizes(
                self._file.read_bytes(part, start, min(start + head_bytes, end))
            )
            stop = start + length
            if stop > end:
                raise TernDamagedError("a block reaches beyond its part", field=part)
            yield start, stop, decoded
            start = stop


class TritReader:
    """Give trits in pieces of any size, holding one segment at a time."""

    def __init__(self, segments: Iterator[Array]) -> None:
        self._segments = segments
        self._segment: Array = np.empty(0, np.int8)

    def read(self, size: int) -> Array:
        """Give the next trits, int8 [size].

        Raises:
            TernDamagedError: a segment is damaged or there are not so many trits.
        """
        pieces = []
        while size:
            if not len(self._segment):
                segment = next(self._segments, None)
                if segment is None or not len(segment):
                    raise TernDamagedError("there are too few trits", field="trits")
                self._segment = segment
            pieces.append(self._segment[:size])
            self._segment = self._segment[len(pieces[-1]) :]
            size -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.int8), *pieces])


_CUT = "if it was cut off after a layer, ask for so many layers as are left"


def _open(path: Path, *, cut: bool) -> TensorFile:
    try:
        return TensorFile(path, max_header_bytes=container.MAX_HEADER_BYTES, cut=cut)
    except SourceError as error:
        raise TernDamagedError(
            error.message,
            file=path.name,
            field=error.field,
            expected=error.expected,
            actual=error.actual,
            hint=_CUT if error.field == "data" else "",
        ) from error


def _segment_sizes(head: bytes) -> tuple[int, int]:
    found = entropy.read_head(head)
    if not found.trits:
        raise TernDamagedError("a segment is empty", field="trits")
    return found.trits, found.size_bytes
