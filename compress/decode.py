"""Turn a `.tern` file back into ordinary weights that every PEFT program loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from compress import backend as backends
from compress import container, heads
from compress.adapter import CONFIG_NAME, SourceKind
from compress.backend import Backend
from compress.container import PLAIN_METADATA, Stored
from compress.container_read import DEFAULT_MAX_DECODED_BYTES, TernFile, TritReader
from compress.dtypes import WEIGHT_DTYPES, Array
from compress.errors import BaseMismatchError, DestinationError, TernDamagedError
from compress.numpy_backend import NumpyBackend
from compress.places import copy_files, find_tern, new_file, new_folder, plain_files
from compress.residual import require_base
from compress.restore import restore
from compress.task_vector import CHUNK, Initial
from compress.tensor_file import TensorWriter
from compress.weights import Weights, find_model_files, open_weights

_EXACT_CHUNK_BYTES = 4 << 20
#: Segments of trits, 2²⁴ each, that a device decodes at one time.
_SEGMENTS = 8


def decompress(
    source: Path,
    destination: Path,
    *,
    base: Path | None = None,
    max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
    layers: int | None = None,
    device: str = "cpu",
) -> None:
    """Write the adapter or model that a `.tern` file stands for.

    Args:
        source: the file, or a folder with one.
        destination: a new folder; or, for weights without a config, a ``.safetensors`` file.
        base: the base model; needed for the residual of a fine-tuned model, else ignored.
        max_decoded_bytes: the most that may be written.
        layers: use only so many layers of a file that has layers; it may end after them.
        device: who decodes: "cpu", or "cuda" with or without a number; the bytes are the same.

    Raises:
        OptionError: the device is absent, or its programs are not installed.
        TernError: the file is damaged, unknown or too large; nothing is left behind.
        BaseMismatchError: the base is absent or is not the one that was compressed against.
        DestinationError: the destination is taken.
    """
    backend = backends.choose(device)
    path = find_tern(source)
    with (
        TernFile(path, max_decoded_bytes=max_decoded_bytes, layers=layers) as tern,
        _open_base(tern, base) as base_weights,
    ):
        if destination.suffix == ".safetensors":
            if tern.index.kind is SourceKind.PEFT:
                raise DestinationError(
                    "an adapter with a config needs a folder",
                    file=str(destination),
                    hint="name a folder instead",
                )
            with new_file(destination) as file:
                write_weights(tern, file, backend=backend, base=base_weights)
            return
        with new_folder(destination) as folder:
            weights = folder / tern.index.weights_name
            write_weights(tern, weights, backend=backend, base=base_weights)
            if tern.index.config:
                (folder / CONFIG_NAME).write_bytes(tern.index.config)
            if source.is_dir():
                left_out = {path.name, CONFIG_NAME, tern.index.weights_name}
                others = plain_files(source)[0].items()
                copy_files({name: file for name, file in others if name not in left_out}, folder)


def write_weights(
    tern: TernFile,
    path: Path,
    *,
    backend: Backend,
    base: Weights | None = None,
) -> None:
    """Write all tensors of an opened file as safetensors, one slice in memory at a time."""
    index = tern.index
    metadata = index.metadata
    if index.kind is SourceKind.PEFT:
        metadata = {**PLAIN_METADATA, **metadata}
    with TensorWriter(path, [t.info for t in index.tensors], metadata=metadata) as writer:
        for tensor, start, values in decoded(tern, backend, base=base):
            writer.write(tensor.info.name, values.tobytes(), start=start * values.dtype.itemsize)
        for tensor, start, values in decoded_heads(tern):
            writer.write(tensor.info.name, values.tobytes(), start=start * values.dtype.itemsize)
        reader = tern.exact_reader()
        for tensor in index.exact:
            for start in range(0, tensor.info.size_bytes, _EXACT_CHUNK_BYTES):
                size = min(_EXACT_CHUNK_BYTES, tensor.info.size_bytes - start)
                writer.write(tensor.info.name, reader.read(size), start=start)


def decoded(
    tern: TernFile, backend: Backend, *, base: Weights | None = None
) -> Iterator[tuple[Stored, int, Array]]:
    """Decode the compressed tensors in slices: tensor, offset and values in its storage type."""
    if tern.method == container.RD:
        for tensor, values in backends.decode_layers(tern, backend):
            yield tensor, 0, values
        return
    trits = TritReader(_segments(tern, backend))
    for tensor in tern.index.coded:
        info = tensor.info
        scale = tern.index.scales[tensor.group]
        for start in range(0, info.size, CHUNK):
            stop = min(start + CHUNK, info.size)
            initial = None
            if tensor.initial is Initial.BASE and base is not None:
                initial = base.read(info.name, start, stop)
            yield tensor, start, restore(trits.read(stop - start), tensor, scale, base=initial)


def _segments(tern: TernFile, backend: Backend) -> Iterator[Array]:
    """Decode the trits, some segments at a time on a device, one at a time on the CPU."""
    together = 1 if isinstance(backend, NumpyBackend) else _SEGMENTS
    batch: list[bytes] = []
    for segment in tern.trit_segments():
        batch.append(segment)
        if len(batch) == together:
            yield from backend.decode_trits(batch)
            batch = []
    yield from backend.decode_trits(batch)


def decoded_heads(tern: TernFile) -> Iterator[tuple[Stored, int, Array]]:
    """Decode the heads that were rounded to few bits: tensor, offset and values in its type.

    Raises:
        TernDamagedError: their part is not whole.
    """
    data, at = tern.heads(), 0
    for tensor in tern.index.heads:
        info = tensor.info
        head = heads.read_head(data[at : at + heads.HEAD_BYTES])
        if head.values != info.size:
            raise TernDamagedError(
                "a head has another size than its tensor",
                field=info.name,
                expected=str(info.size),
                actual=str(head.values),
            )
        for start, values in heads.decode_parts(data[at : at + head.size_bytes]):
            yield tensor, start, values.astype(WEIGHT_DTYPES[info.dtype])
        at += head.size_bytes
    if at != len(data):
        raise TernDamagedError("the heads do not end where they should", field="heads")


@contextmanager
def _open_base(tern: TernFile, base: Path | None) -> Iterator[Weights | None]:
    based = [tensor for tensor in tern.index.coded if tensor.initial is Initial.BASE]
    if based and base is None:
        raise BaseMismatchError(
            "this file holds the difference from a base model",
            file=tern.path.name,
            expected="the base model",
            hint="name the base model that it was compressed against (--base)",
        )
    with open_weights(find_model_files(base)) if based and base else nullcontext() as weights:
        if weights is not None:
            for tensor in based:
                require_base(weights, tensor.info)
            _check_digest(tern, weights)
        yield weights


def _check_digest(tern: TernFile, base: Weights) -> None:
    expected = tern.metadata.get("base_sha256", "")
    actual = base.sha256()
    if expected != actual:
        raise BaseMismatchError(
            "this is not the base that the file was compressed against",
            file=tern.path.name,
            field="base_sha256",
            expected=expected[:16],
            actual=actual[:16],
        )
