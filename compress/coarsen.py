"""Make a coarser file from one with layers: the first of them, as a whole file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from compress.container import EXACT, HEADS, INDEX, LAYERS, SEAL_BYTES, SHANNON
from compress.container_read import TernFile
from compress.container_write import file_header
from compress.errors import OptionError
from compress.places import new_file

#: What the metadata of a whole file says that is not true of its first layers.
_OF_ALL = {"bits", "max_error", "max_module_error", "asked_layers", "weighted_error", "erased"}
_ERRORS = ("delta_error", "vector_error")


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
        told = _told(tern.metadata, described.errors[layers - 1])
        told["layers"] = f"{layers} of {len(described.sizes)}"
        header = file_header(sizes, told)
        seal = hashlib.sha256(header + body).digest()
        path.write_bytes(b"".join([header, seal, body, *parts.values()]))


def _told(metadata: Mapping[str, str], error: float) -> dict[str, str]:
    """Leave out what a file's metadata says of all layers, and give the error of the first ones."""
    told = {
        key: value for key, value in metadata.items() if key not in {*_OF_ALL, *_ERRORS, SHANNON}
    }
    measured = next((key for key in _ERRORS if key in metadata), None)
    return told | ({measured: f"{error:.4g}"} if measured else {})
