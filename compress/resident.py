"""Give the tensors of compressed adapters in memory, on the device that is to use them.

A serving node that holds many adapters decodes some together: their segments fill a GPU that one
alone would leave idle, and nothing but compressed bytes travels to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from compress import backend as backends
from compress import container
from compress.backend import Backend, Vector
from compress.container_read import DEFAULT_MAX_DECODED_BYTES, TernFile
from compress.decode import decoded_heads
from compress.dtypes import WEIGHT_DTYPES, Array
from compress.errors import BaseMismatchError, OptionError
from compress.places import find_tern
from compress.rate_distortion import decoder
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo

Tensors = dict[str, Vector]
#: Values that are decoded at one time; they stay in memory anyway. Kernels count to 2³⁰.
_VALUES_TOGETHER = (1 << 30) - (1 << 24)
_DTYPES: dict[str, np.dtype[np.generic]] = WEIGHT_DTYPES | {
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype(np.complex64),
    **{
        f"{kind}{8 * size}": np.dtype(f"{kind.lower()}{size}")
        for kind in "UI"
        for size in (1, 2, 4, 8)
    },
}


def decode_tensors(
    sources: Sequence[Path],
    *,
    device: str = "cpu",
    layers: int | None = None,
    max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
) -> list[Tensors]:
    """Decode whole adapters into memory.

    Args:
        sources: `.tern` files, or folders with one each; decoded together.
        device: "cpu" gives NumPy arrays, "cuda" with or without a number torch tensors there; they
            hold the same bits.
        layers: use only so many layers; every file must have layers, and may end after them.
        max_decoded_bytes: the most that all of them together may take.

    Returns:
        By source, all of its tensors by name, each in its own type and shape.

    Raises:
        OptionError: the device is absent, its programs are not installed, or it does not know the
            type of a tensor.
        TernError: a file is damaged, unknown or too large.
        BaseMismatchError: a file holds the difference from a base model, which `decompress` adds.
    """
    backend = backends.choose(device)
    with ExitStack() as opened:
        terns: list[TernFile] = []
        left = max_decoded_bytes
        for source in sources:
            path = find_tern(source)
            terns.append(
                opened.enter_context(TernFile(path, max_decoded_bytes=left, layers=layers))
            )
            left -= sum(tensor.info.size_bytes for tensor in terns[-1].index.tensors)
        found: list[Tensors] = [{} for _ in terns]
        _add_layers(terns, backend, found)
        for tern, tensors in zip(terns, found, strict=True):
            if tern.method == container.COMPEFT:
                tensors.update(_trits(tern, backend))
            tensors.update(_beside(tern, backend))
        return found


def _add_layers(terns: Sequence[TernFile], backend: Backend, found: Sequence[Tensors]) -> None:
    """Decode the layers of all files together."""
    segments: list[decoder.Coded] = []
    owners: list[Tensors] = []
    for tern, tensors in zip(terns, found, strict=True):
        if tern.method == container.RD:
            segments += decoder.read(tern)
            owners += [tensors] * (len(segments) - len(owners))
    at = iter(owners)
    for batch in backends.batches(segments, values=_VALUES_TOGETHER):
        values = iter(backend.decode_layers(batch))
        for coded in batch:
            owner = next(at)
            for tensor in coded.tensors:
                owner[tensor.info.name] = next(values).reshape(tensor.info.shape)


def _trits(tern: TernFile, backend: Backend) -> Tensors:
    coded = tern.index.coded
    if any(tensor.initial is Initial.BASE for tensor in coded):
        raise BaseMismatchError(
            "this file holds the difference from a base model",
            file=tern.path.name,
            expected="an adapter",
            hint="decompress it with its base model (--base)",
        )
    scales = [tern.index.scales[tensor.group] for tensor in coded]
    values = backend.decode_tensors(list(tern.trit_segments()), coded, scales)
    return {
        tensor.info.name: own.reshape(tensor.info.shape)
        for tensor, own in zip(coded, values, strict=True)
    }


def _beside(tern: TernFile, backend: Backend) -> Tensors:
    """Give what is not described: rounded heads, and what is kept exactly."""
    return {info.name: backend.on_device(values) for info, values in kept_tensors(tern)}


def kept_tensors(tern: TernFile) -> Iterator[tuple[TensorInfo, Array]]:
    """Give what is not described by trits or layers: rounded heads, and what is kept exactly."""
    parts: dict[str, list[Array]] = {}
    for tensor, _, values in decoded_heads(tern):
        parts.setdefault(tensor.info.name, []).append(values)
    for tensor in tern.index.heads:
        info = tensor.info
        yield info, np.concatenate(parts[info.name]).reshape(info.shape)
    reader = tern.exact_reader()
    for tensor in tern.index.exact:
        info = tensor.info
        data = reader.read(info.size_bytes)
        if info.dtype not in _DTYPES:
            raise OptionError(
                "a tensor has a type that programs do not hold in memory",
                field=info.name,
                expected=", ".join(_DTYPES),
                actual=info.dtype,
                hint="decompress the file instead",
            )
        yield info, np.frombuffer(data, _DTYPES[info.dtype]).reshape(info.shape)
