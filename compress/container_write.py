"""Put a `.tern` file together.

Streams go to temporary files first, because the index stands before them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np

from compress import container, entropy, layers
from compress.container import EXACT, HEADS, INDEX, LAYERS, SEAL_BYTES, TRITS
from compress.dtypes import Array
from compress.exact_blocks import ExactWriter
from compress.layers import Layers
from compress.tensor_file import header_bytes

_SPOOL_BYTES = 32 << 20
_COPY_BYTES = 1 << 20
#: Joining runs saves the start of a segment, which matters in small files only.
_JOINABLE_TRITS = 1 << 20


class TernWriter:
    """Take trits and exact bytes, then write the file in one go.

    Trits come in runs, one per role; a run always ends a segment, except that the runs of a small
    file become one segment where that takes fewer bytes than they take apart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._trits = self._spool()
        self._exact = self._spool()
        self.exact = ExactWriter(self._exact)

    def add_runs(self, runs: Iterable[tuple[int, Iterable[Array]]]) -> None:
        """Encode runs of trits.

        Args:
            runs: for every role, the number of its trits and its pieces, int8 flat.
        """
        held = list(runs)
        if sum(size for size, _ in held) <= _JOINABLE_TRITS:
            whole = [np.concatenate(list(pieces)) for _, pieces in held]
            for segment in _join_if_smaller(whole):
                self._trits.write(entropy.encode_segment(segment))
            return
        for _, pieces in held:
            for segment in _cut(pieces):
                self._trits.write(entropy.encode_segment(segment))

    def finish(self, index: container.Index, metadata: Mapping[str, str]) -> dict[str, int]:
        """Write the file; give the bytes of each part, the header among them."""
        self.exact.finish()
        streams = {TRITS: self._trits, EXACT: self._exact}
        body = container.encode_index(index)
        sizes = {INDEX: SEAL_BYTES + len(body)}
        sizes |= {name: stream.tell() for name, stream in streams.items()}
        header = file_header(sizes, metadata)
        digest = hashlib.sha256(header + body)
        with self._path.open("wb") as out:
            out.write(header + bytes(SEAL_BYTES) + body)
            for stream in streams.values():
                stream.seek(0)
                while chunk := stream.read(_COPY_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
            out.seek(len(header))
            out.write(digest.digest())
        return {"header": len(header), **sizes}

    def finish_layers(
        self, index: container.Index, metadata: Mapping[str, str], parts: LayeredParts
    ) -> dict[str, int]:
        """Write a file with layers; give the bytes of each part, the header among them."""
        self.exact.finish()
        self._exact.seek(0)
        found = {EXACT: self._exact.read(), HEADS: parts.heads, LAYERS: b"".join(parts.layers)}
        described = replace(
            parts.described,
            digests=tuple(layers.digest(layer) for layer in parts.layers),
            parts=tuple(layers.digest(found[name]) for name in (EXACT, HEADS) if found[name]),
        )
        body = container.encode_index(replace(index, layers=described))
        sizes = {INDEX: SEAL_BYTES + len(body)}
        sizes |= {name: len(data) for name, data in found.items()}
        header = file_header(sizes, metadata)
        seal = hashlib.sha256(header + body).digest()
        with self._path.open("wb") as out:
            out.write(header + seal + body)
            for data in found.values():
                out.write(data)
        return {"header": len(header), **sizes}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _spool(self) -> BinaryIO:
        folder = str(self._path.parent)
        return cast(
            "BinaryIO",
            self._stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=folder)),
        )


@dataclass(frozen=True, slots=True)
class LayeredParts:
    """Hold what a file with layers has beside its index and its exact part.

    Attributes:
        heads: the part of heads that are rounded to few bits, empty for none.
        layers: the bytes of every layer.
        described: how they lie; digests are filled in.
    """

    heads: bytes
    layers: Sequence[bytes]
    described: Layers


def file_header(sizes: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
    """Give the header of a file whose parts have these sizes, in order; empty ones are left out."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, size in sizes.items():
        if size or name == INDEX:
            end = offset + size
            header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [offset, end]}
        offset += size
    return header_bytes(header)


def _join_if_smaller(runs: list[Array]) -> list[Array]:
    if len(runs) < 2:
        return runs
    joined = np.concatenate(runs)
    apart = sum(entropy.estimate_bytes(run) for run in runs)
    return [joined] if entropy.estimate_bytes(joined) <= apart else runs


def _cut(pieces: Iterable[Array]) -> Iterator[Array]:
    """Cut a long run into segments, holding one segment at a time."""
    segment = np.empty(entropy.MAX_SEGMENT_TRITS, np.int8)
    filled = 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            taken = piece[at : at + len(segment) - filled]
            segment[filled : filled + len(taken)] = taken
            filled += len(taken)
            at += len(taken)
            if filled == len(segment):
                yield segment
                filled = 0
    if filled:
        yield segment[:filled]
