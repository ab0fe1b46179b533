"""Look inside a `.tern` for the registry, which cannot decode one itself."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compress import container
from compress.adapter import SourceKind
from compress.container import Stored
from compress.container_read import TernFile
from registry.validation.adapter_config import parse_config
from registry.validation.adapter_kinds import describe_kept, is_sparse_delta
from registry.validation.adapter_summary import Kind, TernContent
from registry.validation.file_sources import FileSource, LocalFile
from registry.validation.lora_keys import LoraLayout, read_layout
from registry.validation.tensor_info import TensorInfo

_COPY_BYTES = 1 << 20
_LOSSLESS = "the method lossless gives every bit back"


def read_tern(source: FileSource) -> TernContent:
    """Check every byte of a `.tern` and return what it holds; its streams are not decoded.

    Raises:
        TernError: it is damaged, or of a version that is not understood.
        FileError: the LoRA factors inside do not fit one another.
    """
    with _on_disk(source) as path, TernFile(path) as tern:
        index = tern.index
        lossless = tern.method == container.LOSSLESS
    parameters = Counter[str]()
    for tensor in index.tensors:
        parameters[tensor.info.dtype] += tensor.info.size
    tensors = [_described(tensor) for tensor in index.tensors]
    coded = [_described(tensor) for tensor in (*index.coded, *index.heads)]
    if index.kind is SourceKind.MODEL:
        layout = LoraLayout((), frozenset(), frozenset(), ())
    else:
        layout = read_layout(
            tensors, file=index.weights_name, free_ranks=index.kind is SourceKind.PEFT
        )
    return TernContent(
        _kind(tensors, layout),
        index.config,
        dict(parameters),
        layout.module_shapes,
        compressible=bool(coded),
        kept_exactly=describe_kept(
            _peft_type(index.config), tensors, coded, why=_LOSSLESS if lossless else ""
        ),
    )


def _kind(tensors: Sequence[TensorInfo], layout: LoraLayout) -> Kind:
    """Tell what weights without a configuration are; one with a residual has no other mark."""
    if layout.adapter:
        return Kind.LORA_RAW
    return Kind.SPARSE_DELTA if is_sparse_delta(tensors) else Kind.FULL_RESIDUAL


def _peft_type(config: bytes) -> str:
    return parse_config(config).peft_type if config else ""


def _described(tensor: Stored) -> TensorInfo:
    info = tensor.info
    return TensorInfo(info.name, info.dtype, info.shape, info.begin, info.begin + info.size_bytes)


@contextmanager
def _on_disk(source: FileSource) -> Iterator[Path]:
    if isinstance(source, LocalFile):
        yield source.path
        return
    with tempfile.NamedTemporaryFile(suffix=".tern") as copy:
        with source.open() as reader:
            shutil.copyfileobj(reader, copy, _COPY_BYTES)
        copy.flush()
        yield Path(copy.name)
