"""Describe the `.tern` container: what its index says and how the index is written.

A `.tern` is a valid safetensors file with up to four U8 tensors, in this order:

    index   32 bytes of seal, then the index, deflated with the words of `dictionary.py`
    trits   segments of `entropy.py`, one after another
    exact   blocks of `exact_blocks.py`, one after another; absent where nothing is kept exactly

The seal is the sha256 of the whole file with the seal's own 32 bytes left out, so that no bit can
change unnoticed. The method `rd` has `layers` instead of trits, and last, so that a file that ends
after some layers is a coarser adapter (`layers.py`): there the seal covers header and index, and
the index holds a digest of every other part. `__metadata__` names format, version, method,
parameters, the digest of what was compressed and the measured error. The index names every tensor
with its type and shape and says which role and scale it has; it also carries the config and the
metadata of the file that was compressed. Trits stand in order of role, then of the tensor table;
exact tensors in order of element width, then of the table. Readers refuse what they do not know:
another version, another method, another tensor in the file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from compress import dictionary, layers
from compress.adapter import SourceKind
from compress.dtypes import DTYPE_BITS, DTYPE_CODES, WEIGHT_DTYPES, cast
from compress.errors import TernDamagedError
from compress.layers import Layers
from compress.lora import Role
from compress.names import ByteReader, ByteWriter, read_names, table_order, write_names
from compress.task_vector import Initial
from compress.tensor_file import MAX_DIMENSIONS, MAX_NAME_CHARS, TensorInfo

FORMAT = "tern"
#: What is written. Version 2 may hold grouped segments of trits and exact blocks of codec 2 and 3.
VERSION = "2"
VERSIONS = ("1", VERSION)
COMPEFT, RD, LOSSLESS = "compeft", "rd", "lossless"
METHODS = (COMPEFT, RD, LOSSLESS)
SEAL_BYTES = 32
#: Where the metadata of a file with layers tells the entropy of its symbols, in bytes.
SHANNON = "shannon_bytes"
MAX_INDEX_BYTES = 32 << 20
MAX_TENSORS = 1 << 18
MAX_HEADER_BYTES = 1 << 16
PLAIN_METADATA = {"format": "pt"}
INDEX, TRITS, EXACT, HEADS, LAYERS = "index", "trits", "exact", "heads", "layers"
_WEIGHTS_NAME = re.compile(r"[^./\\][^/\\]{0,200}\.safetensors")
Kind = TypeVar("Kind", SourceKind, Role, Initial)


@dataclass(frozen=True, slots=True)
class Stored:
    """Describe one tensor of the index.

    Attributes:
        info: its name, type and shape.
        role: `Role.EXACT` if its bytes are kept, else its role in the task vector.
        initial: the value to which scale · trit is added.
        group: position of its scale.
    """

    info: TensorInfo
    role: Role = Role.EXACT
    initial: Initial = Initial.ZERO
    group: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """Hold everything about the tensors except their values.

    Attributes:
        kind: PEFT adapter, raw adapter or model.
        weights_name: the file name of the weights when decoded.
        config: the bytes of `adapter_config.json`, empty where there was none.
        metadata: the `__metadata__` of the weights.
        scales: what +1 stands for, by group.
        tensors: all tensors, in the order of the table.
        layers: how the layers of the method `rd` lie, None for other methods.
    """

    kind: SourceKind
    weights_name: str
    config: bytes
    metadata: dict[str, str]
    scales: tuple[float, ...]
    tensors: tuple[Stored, ...] = field(default=())
    layers: Layers | None = None

    @property
    def coded(self) -> list[Stored]:
        """List the tensors of the stream of trits, in its order."""
        coded = (t for t in self.tensors if t.role not in {Role.EXACT, Role.HEAD})
        return sorted(coded, key=lambda t: t.role)

    @property
    def heads(self) -> list[Stored]:
        """List the tensors that are rounded to few bits, in their order."""
        return [t for t in self.tensors if t.role is Role.HEAD]

    @property
    def exact(self) -> list[Stored]:
        """List the tensors of the exact stream, in its order."""
        kept = (t for t in self.tensors if t.role is Role.EXACT)
        return sorted(kept, key=lambda t: element_bytes(t.info))


def element_bytes(info: TensorInfo) -> int:
    """Give the bytes of one element, 1 for types narrower than a byte."""
    return max(1, DTYPE_BITS[info.dtype] // 8)


def in_table_order(tensors: Iterable[Stored]) -> tuple[Stored, ...]:
    """Order tensors as the table holds them."""
    by_name = {tensor.info.name: tensor for tensor in tensors}
    return tuple(by_name[name] for name in table_order(by_name))


def encode_index(index: Index) -> bytes:
    """Write an index whose tensors stand in table order, deflated."""
    out = ByteWriter()
    out.number(index.kind)
    out.block(index.weights_name.encode())
    out.number(len(index.tensors))
    write_names(out, [tensor.info.name for tensor in index.tensors])
    out.numbers(DTYPE_CODES.index(tensor.info.dtype) for tensor in index.tensors)
    out.numbers(len(tensor.info.shape) for tensor in index.tensors)
    out.numbers(size for tensor in index.tensors for size in tensor.info.shape)
    out.numbers(4 * tensor.role + tensor.initial for tensor in index.tensors)
    out.number(len(index.scales))
    out.data += struct.pack(f"<{len(index.scales)}d", *index.scales)
    if len(index.scales) > 1:
        out.numbers(tensor.group for tensor in index.tensors)
    plain = index.metadata == PLAIN_METADATA
    if index.layers is None:
        out.block(b"" if plain else json.dumps(index.metadata, separators=(",", ":")).encode())
    else:
        _write_metadata(out, {} if plain else index.metadata, plain=plain)
    out.block(index.config)
    if index.layers is not None:
        layers.write(out, index.layers)
    return dictionary.deflate(bytes(out.data))


def decode_index(data: bytes, *, layered: bool = False) -> Index:
    """Read an index and check that it makes sense.

    Args:
        data: the deflated index.
        layered: it belongs to a file with layers.

    Raises:
        TernDamagedError: it does not.
    """
    source = ByteReader(dictionary.inflate(data, max_bytes=MAX_INDEX_BYTES))
    kind = _member(SourceKind, source.number())
    weights_name = _text(source.block())
    if not _WEIGHTS_NAME.fullmatch(weights_name) or not weights_name.isprintable():
        raise TernDamagedError("the name of the weights is not a file name", field="index")
    infos = _read_infos(source)
    codes = source.numbers(len(infos))
    count = source.number()
    scales = struct.unpack(f"<{count}d", source.fixed(8 * count)) if count <= len(infos) else ()
    if len(scales) != count or not all(0 <= scale < float("inf") for scale in scales):
        raise TernDamagedError("the scales are not valid", field="index")
    groups = source.numbers(len(infos)) if count > 1 else [0] * len(infos)
    tensors = [
        _stored(info, code, group, count)
        for info, code, group in zip(infos, codes, groups, strict=True)
    ]
    metadata = _read_columns(source) if layered else _read_metadata(source.block())
    config = source.block()
    layout = layers.read(source) if layered else None
    source.finish()
    index = Index(kind, weights_name, config, metadata, scales, tuple(tensors), layout)
    if unrepresentable := overflowing(index):
        raise TernDamagedError("a scale does not fit its tensor's type", field=unrepresentable[0])
    return index


def overflowing(index: Index) -> list[str]:
    """List the compressed tensors whose values would be NaN or infinite in their type."""
    seen: dict[tuple[int, str], bool] = {}
    for tensor in index.coded:
        key = (tensor.group, tensor.info.dtype)
        if key not in seen:
            seen[key] = bool(np.isfinite(cast(1 + index.scales[tensor.group], key[1]))[0])
    return [t.info.name for t in index.coded if not seen[t.group, t.info.dtype]]


def _read_infos(source: ByteReader) -> list[TensorInfo]:
    count = source.number()
    if count > MAX_TENSORS:
        raise TernDamagedError(
            "too many tensors", field="index", expected=f"at most {MAX_TENSORS}", actual=str(count)
        )
    names = read_names(source, count)
    types = source.numbers(count)
    axes = source.numbers(count)
    infos = []
    for name, code, axis_count in zip(names, types, axes, strict=True):
        if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise TernDamagedError(
                "a tensor's name is not valid", field="index", actual=ascii(name[:80])
            )
        if code >= len(DTYPE_CODES) or axis_count > MAX_DIMENSIONS:
            raise TernDamagedError("a tensor is not valid", field=name)
        infos.append(TensorInfo(name, DTYPE_CODES[code], tuple(source.numbers(axis_count))))
    return infos


def _stored(info: TensorInfo, code: int, group: int, groups: int) -> Stored:
    role, initial = _member(Role, code // 4), _member(Initial, code % 4)
    coded = role is not Role.EXACT
    if info.size * DTYPE_BITS[info.dtype] % 8 or group >= max(1, groups):
        raise TernDamagedError("a tensor is not valid", field=info.name)
    if coded and (info.dtype not in WEIGHT_DTYPES or not groups):
        raise TernDamagedError(
            "a tensor cannot be made of trits", field=info.name, actual=info.dtype
        )
    return Stored(info, role, initial, group)


def _member(kind: type[Kind], value: int) -> Kind:
    try:
        return kind(value)
    except ValueError as error:
        raise TernDamagedError(
            f"unknown {kind.__name__}", field="index", actual=str(value)
        ) from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TernDamagedError("text is not UTF-8", field="index") from error


def _write_metadata(out: ByteWriter, metadata: dict[str, str], *, plain: bool) -> None:
    """Write keys as names are written, then the values: uploads tell a rank for every module."""
    odd = [key for key in metadata if not key.isprintable()]
    keys = table_order(key for key in metadata if key not in odd)
    rest = {key: metadata[key] for key in odd}
    out.number(len(keys))
    write_names(out, keys)
    out.block(json.dumps([metadata[key] for key in keys], separators=(",", ":")).encode())
    nothing = plain or (keys and not rest)
    out.block(b"" if nothing else json.dumps(rest).encode())


def _read_columns(source: ByteReader) -> dict[str, str]:
    keys = read_names(source, source.number())
    try:
        values = json.loads(source.block())
    except (ValueError, RecursionError) as error:
        raise TernDamagedError(
            "the metadata of the weights cannot be read", field="index"
        ) from error
    strings = isinstance(values, list) and all(isinstance(value, str) for value in values)
    if not strings or len(values) != len(keys):
        raise TernDamagedError("the metadata of the weights is not valid", field="index")
    odd = source.block()
    if not keys:
        return _read_metadata(odd)
    return dict(zip(keys, values, strict=True)) | (_read_metadata(odd) if odd else {})


def _read_metadata(data: bytes) -> dict[str, str]:
    if not data:
        return dict(PLAIN_METADATA)
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TernDamagedError(
            "the metadata of the weights cannot be read", field="index"
        ) from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise TernDamagedError("the metadata of the weights is not valid", field="index")
    return metadata


def trit_count(tensors: Sequence[Stored]) -> int:
    """Count the elements of tensors."""
    return sum(tensor.info.size for tensor in tensors)
