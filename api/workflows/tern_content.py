"""Look inside a `.tern` for the registry, which cannot decode one itself."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.adapter import SourceKind
from compress.container import Stored
from compress.container_read import TernFile
from registry.validation.adapter_summary import Kind, TernContent
from registry.validation.file_sources import FileSource, LocalFile
from registry.validation.lora_keys import read_layout
from registry.validation.tensor_info import TensorInfo

_COPY_BYTES = 1 << 20


def read_tern(source: FileSource) -> TernContent:
    """Check every byte of a `.tern` and return what it holds; its trits are not decoded.

    Raises:
        TernError: it is damaged, or of a version that is not understood.
        FileError: the LoRA factors inside do not fit one another.
    """
    with _on_disk(source) as path, TernFile(path) as tern:
        index = tern.index
    parameters = Counter[str]()
    for tensor in index.tensors:
        parameters[tensor.info.dtype] += tensor.info.size
    layout = read_layout(
        [_described(tensor) for tensor in index.tensors],
        file=index.weights_name,
        free_ranks=index.kind is SourceKind.PEFT,
    )
    kind = Kind.FULL_RESIDUAL if index.kind is SourceKind.MODEL else Kind.LORA_RAW
    return TernContent(kind, index.config, dict(parameters), layout.module_shapes)


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
