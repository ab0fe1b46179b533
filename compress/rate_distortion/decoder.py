"""Turn the layers of a file back into tensors, as many layers as there are or are wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.container import Stored
from compress.container_read import TernFile
from compress.dtypes import Array, narrow
from compress.errors import TernDamagedError, TernTooLargeError
from compress.layers import Layers
from compress.lora import pair_up
from compress.rate_distortion import segment, side
from compress.rate_distortion.layout import Layout, arrange
from compress.task_vector import Initial

#: Values of one segment, or of one tensor, that are ever held: 1 GiB of float32.
MAX_VALUES = 1 << 28
_MOST_GAIN = 3e38


@dataclass(frozen=True, slots=True)
class Described:
    """Name the tensors that one module of a file with layers describes.

    Attributes:
        name: of the module, or of its one tensor.
        b: B [d_out, rank], or a tensor that is one vector.
        a: A [rank, d_in]; None for a vector.
    """

    name: str
    b: Stored
    a: Stored | None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Give the lengths of a component's vectors."""
        if self.a is None:
            return (self.b.info.size,)
        return (self.b.info.shape[0], self.a.info.size // self.a.info.shape[0])

    @property
    def rank(self) -> int:
        """Give the most components that it can have."""
        return 1 if self.a is None else self.a.info.shape[0]


def described(coded: Sequence[Stored]) -> list[Described]:
    """Find the modules of a file from its tensors; encoder and decoder agree on their order."""
    stored = {tensor.info.name: tensor for tensor in coded}
    pairs = pair_up(tensor.info for tensor in coded)
    modules = [Described(name, stored[b.name], stored[a.name]) for name, a, b in pairs]
    paired = {info.name for _, a, b in pairs for info in (a, b)}
    alone = sorted(set(stored) - paired)
    return modules + [Described(name, stored[name], None) for name in alone]


@dataclass(frozen=True, slots=True)
class _Place:
    """Say where the bytes of one segment lie: of its side, and of the blocks that are used.

    `planes` counts the blocks that it has in all, which must be in the last layers.
    """

    side: tuple[int, int]
    blocks: tuple[tuple[int, int], ...]
    planes: int


@dataclass(frozen=True, slots=True)
class Coded:
    """Hold one segment of a file, not decoded yet: blocks, and what their levels mean.

    Attributes:
        modules: those that it describes.
        parts: by module and component, what its vectors are multiplied with, and where they begin.
        blocks: bytes by plane, coarsest first; as many as are used.
        layout: where the classes lie.
        planes: by class, how many planes its levels have in all.
    """

    modules: tuple[Described, ...]
    parts: tuple[tuple[tuple[float, tuple[int, ...]], ...], ...]
    blocks: tuple[bytes, ...]
    layout: Layout
    planes: tuple[int, ...]

    @property
    def tensors(self) -> list[Stored]:
        """List the tensors in the order in which they are decoded: A before B."""
        pairs = [(module.a, module.b) for module in self.modules]
        return [tensor for pair in pairs for tensor in pair if tensor is not None]


def decode(tern: TernFile, *, layers: int | None = None) -> Iterator[tuple[Stored, Array]]:
    """Decode the tensors of a file with layers, one module after another.

    Args:
        tern: the opened file.
        layers: how many layers to use; None means all that are there.

    Yields:
        the tensor and its values, flat, in its storage type.

    Raises:
        TernDamagedError: a layer is not one that an encoder writes.
        TernTooLargeError: a segment holds more than is ever decoded at once.
    """
    for coded in read(tern, layers=layers):
        yield from decode_segment(coded)


def decode_segment(coded: Coded) -> Iterator[tuple[Stored, Array]]:
    """Decode the tensors of one segment; see `decode`.

    Raises:
        TernDamagedError: a block is not one that an encoder writes.
    """
    values = np.zeros(coded.layout.size, np.float32)
    if coded.planes:
        # a segment with fewer planes than there are layers has none in the first of them
        values = segment.decode(coded.blocks, coded.layout, coded.planes)
    for module, components in zip(coded.modules, coded.parts, strict=True):
        yield from _tensors(module, components, values)


def read(tern: TernFile, *, layers: int | None = None) -> Iterator[Coded]:
    """Read the segments of a file with layers; arguments are those of `decode`.

    Raises:
        TernDamagedError: what a layer says about its segments makes no sense.
        TernTooLargeError: a segment holds more than is ever decoded at once.
    """
    found = tern.index.layers
    if found is None:
        raise TernDamagedError("this file has no layers", field="layers")
    modules = described(tern.index.coded)
    if sum(found.modules) != len(modules):
        raise TernDamagedError(
            "the segments have other modules than the index",
            field="layers",
            expected=str(len(modules)),
            actual=str(sum(found.modules)),
        )
    count = tern.layer_count if layers is None else min(layers, tern.layer_count)
    first = 0
    for size, place in zip(found.modules, _places(found, count), strict=True):
        yield _read_segment(tern, modules[first : first + size], place, found)
        first += size


def _places(layers: Layers, count: int) -> Iterator[_Place]:
    """Find where the bytes of every segment lie."""
    side_at = 0
    block_at = [layers.start(layer) for layer in range(count)]
    if block_at:
        block_at[0] += sum(layers.sides)
    for number, side_bytes in enumerate(layers.sides):
        sizes = [row[number] for row in layers.blocks]
        planes = sum(size > 0 for size in sizes)
        if any(sizes[: len(sizes) - planes]):
            raise TernDamagedError("a segment lacks a plane between others", field="layers")
        blocks = tuple((at, at + size) for at, size in zip(block_at, sizes, strict=False))
        yield _Place((side_at, side_at + side_bytes), blocks, planes)
        side_at += side_bytes
        block_at = [stop for _, stop in blocks]


def _read_segment(
    tern: TernFile, modules: Sequence[Described], place: _Place, found: Layers
) -> Coded:
    sizes = [module.sizes for module in modules]
    told = side.NOTHING
    # with no layer at all, such as in a file without components, there is no side either
    if tern.layer_count:
        raw = tern.layer_bytes(*place.side)
        told = side.read(raw, sizes, [module.rank for module in modules])
    layout = arrange(told.components)
    _check_sizes(modules, layout)
    if max(told.planes, default=0) != place.planes:
        raise TernDamagedError(
            "a segment has other planes than its levels need",
            field="layers",
            expected=str(max(told.planes, default=0)),
            actual=str(place.planes),
        )
    blocks = tuple(tern.layer_bytes(start, stop) for start, stop in place.blocks if stop > start)
    parts: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in modules]
    for component, steps, starts in zip(told.components, told.gains, layout.starts, strict=True):
        whole = steps + side.expected_steps(component, found.unit)
        gain = _checked(side.gain(whole, found.unit) * found.gain, len(starts))
        parts[component.module].append((gain, starts))
    by_module = tuple(tuple(components) for components in parts)
    return Coded(tuple(modules), by_module, blocks, layout, told.planes)


def _check_sizes(modules: Sequence[Described], layout: Layout) -> None:
    if layout.size > MAX_VALUES:
        raise TernTooLargeError(
            "a segment is too large",
            field="layers",
            expected=f"at most {MAX_VALUES} values",
            actual=str(layout.size),
        )
    for module in modules:
        if module.a is not None and module.rank * max(module.sizes) > MAX_VALUES:
            raise TernTooLargeError("a tensor is too large", field=module.a.info.name)


def _checked(gain: float, vectors: int) -> float:
    """Give what every vector of a component is multiplied with: half of a gain, or all of it.

    Raises:
        TernDamagedError: it does not fit float32.
    """
    each = math.sqrt(gain) if vectors == 2 else gain
    if not each < _MOST_GAIN:
        raise TernDamagedError("a gain is out of its range", field="layer0")
    return each


def _tensors(
    module: Described, components: Sequence[tuple[float, tuple[int, ...]]], values: Array
) -> Iterator[tuple[Stored, Array]]:
    if module.a is None:
        yield module.b, _vector(module, components, values)
        return
    d_out, d_in = module.sizes
    places = zip(*(starts for _, starts in components), strict=True) if components else ((), ())
    halves = [half for half, _ in components]
    of_b, of_a = (list(zip(starts, halves, strict=True)) for starts in places)
    a = _rows(values, of_a, (module.rank, d_in))
    b = _rows(values, of_b, (module.rank, d_out)).T
    yield module.a, stored(a.reshape(-1), module.a)
    yield module.b, stored(b.reshape(-1), module.b)


def _rows(values: Array, vectors: Sequence[tuple[int, float]], shape: tuple[int, int]) -> Array:
    """Put vectors, each where it starts and times what, into the first rows: float32."""
    rows = np.zeros(shape, np.float32)
    with np.errstate(over="ignore"):
        for row, (start, half) in zip(rows, vectors, strict=False):
            np.multiply(values[start : start + len(row)], np.float32(half), out=row)
    return rows


def _vector(
    module: Described, components: Sequence[tuple[float, tuple[int, ...]]], values: Array
) -> Array:
    change = np.zeros(module.b.info.size, np.float32)
    for gain, (start,) in components:
        change += _scaled(values[start : start + len(change)], gain)
    if module.b.initial is Initial.ONE:
        change += np.float32(1)
    return stored(change, module.b)


def _scaled(values: Array, gain: float) -> Array:
    """Multiply float32 values; what overflows becomes infinite."""
    with np.errstate(over="ignore"):
        return values * np.float32(gain)


def stored(values: Array, tensor: Stored) -> Array:
    """Round float32 values to the storage type of a tensor.

    Raises:
        TernDamagedError: one does not fit it.
    """
    largest = np.abs(values).max(initial=0.0, keepdims=True)
    with np.errstate(over="ignore"):
        rounded = narrow(values, tensor.info.dtype)
        fits = np.isfinite(largest.astype(rounded.dtype).astype(np.float32)).all()
    if not fits:
        raise TernDamagedError("a value does not fit its type", field=tensor.info.name)
    return rounded
