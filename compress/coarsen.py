"""Make a coarser file from one with layers: the first of them, as a whole file of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from compress.container import EXACT, HEADS, INDEX, LAYERS, SEAL_BYTES
from compress.container_read import TernFile
from compress.container_write import file_header
from compress.errors import OptionError
from compress.places import new_file


def coarsen(source: Path, destination: Path, layers: int) -> None:
    """Write the first layers of a file as a `.tern` that says that it has no more.

    The index stays as it is, so that the digests of the layers still hold.

    Args:
        source: a `.tern` with layers; it may be cut off after the wanted ones.
        destination: the new file.
        layers: how many to keep, 1 or more.

    Raises:
        OptionError: the file has no layers.
        TernError: it is damaged, or has fewer.
        DestinationError: the destination cannot be written.
    """
    with TernFile(source, layers=layers) as tern, new_file(destination) as path:
        described = tern.index.layers
        if described is None:
            raise OptionError(
                "this file has no layers",
                file=source.name,
                field="layers",
                expected="the method rd",
                actual=tern.method,
            )
        body, exact = tern.part(INDEX)[SEAL_BYTES:], tern.part(EXACT)
        parts = {EXACT: exact, HEADS: tern.heads()}
        parts[LAYERS] = tern.layer_bytes(0, described.start(layers))
        sizes = {INDEX: SEAL_BYTES + len(body)} | {name: len(data) for name, data in parts.items()}
        told = f"{layers} of {len(described.sizes)}"
        header = file_header(sizes, {**tern.metadata, "layers": told})
        seal = hashlib.sha256(header + body).digest()
        path.write_bytes(b"".join([header, seal, body, *parts.values()]))
