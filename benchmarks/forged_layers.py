"""Take a `.tern` file of the method rd apart and put it together again with other contents.

What is put together has the right header, digests and seal, whatever its parts say: a reader cannot
tell by any checksum that it was forged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

from compress import container, layers
from compress.container import EXACT, HEADS, INDEX, LAYERS, SEAL_BYTES, Index
from compress.container_read import TernFile
from compress.container_write import file_header


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold the parts of a file.

    Attributes:
        metadata: its `__metadata__`.
        index: with sizes of layers as it pleases; digests are filled in.
        exact: the exact part.
        heads: the part of rounded heads.
        layers: bytes of every layer.
    """

    metadata: Mapping[str, str]
    index: Index
    exact: bytes
    heads: bytes
    layers: tuple[bytes, ...]


def take_apart(path: Path) -> Parts:
    """Read a right file.

    Raises:
        TernError: it is not right.
    """
    with TernFile(path) as tern:
        sizes = tern.index.layers.sizes if tern.index.layers is not None else ()
        ends = list(accumulate(sizes, initial=0))
        whole = tern.part(LAYERS)
        pieces = tuple(whole[start:stop] for start, stop in pairwise(ends))
        return Parts(dict(tern.metadata), tern.index, tern.part(EXACT), tern.heads(), pieces)


def put_together(parts: Parts) -> bytes:
    """Write a file whose checksums are right."""
    others = (parts.exact, parts.heads)
    described = parts.index.layers
    if described is not None:
        described = replace(
            described,
            digests=tuple(layers.digest(layer) for layer in parts.layers),
            parts=tuple(layers.digest(part) for part in others if part),
        )
    body = container.encode_index(replace(parts.index, layers=described))
    return seal(body, parts)


def seal(body: bytes, parts: Parts) -> bytes:
    """Write a file around an index that is deflated already."""
    sizes = {INDEX: SEAL_BYTES + len(body), EXACT: len(parts.exact), HEADS: len(parts.heads)}
    sizes[LAYERS] = sum(map(len, parts.layers))
    header = file_header(sizes, parts.metadata)
    digest = hashlib.sha256(header + body).digest()
    return b"".join((header, digest, body, parts.exact, parts.heads, *parts.layers))
