"""Make coded segments of layers for the tests of their decoding, and lies about them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress import rans
from compress.container import Stored
from compress.lora import Role
from compress.rate_distortion import segment
from compress.rate_distortion.decoder import Coded, Described
from compress.rate_distortion.layout import Component, arrange
from compress.task_vector import Initial
from compress.tensor_file import TensorInfo

Array = NDArray[Any]


@dataclass(frozen=True)
class Module:
    """Say what a module of a made segment looks like.

    Attributes:
        sizes: d_out and d_in, or one size for a vector.
        energies: of its components, strongest first.
        rank: of its factors.
        dtypes: of A and B, or of the vector.
        gain: what its vectors are multiplied with.
        initial: of a vector.
    """

    sizes: tuple[int, ...]
    energies: tuple[int, ...]
    rank: int = 2
    dtypes: tuple[str, ...] = ("F32", "BF16")
    gain: float = 0.37
    initial: Initial = Initial.ZERO

    def described(self, number: int) -> Described:
        """Name its tensors."""
        name = f"m{number}"
        if len(self.sizes) == 1:
            info = TensorInfo(name, self.dtypes[0], self.sizes)
            return Described(name, Stored(info, Role.OTHER, self.initial), None)
        a = TensorInfo(f"{name}.lora_A", self.dtypes[0], (self.rank, self.sizes[1]))
        b = TensorInfo(f"{name}.lora_B", self.dtypes[1], (self.sizes[0], self.rank))
        return Described(name, Stored(b, Role.B), Stored(a, Role.A))


@contextmanager
def lanes_of(lanes: int, *, grouped: bool) -> Iterator[None]:
    """Have encoders take so many lanes, where there are as many pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "_lanes", lambda _, symbols: min(lanes, symbols))
        patch.setattr(rans, "GROUPED_FROM", 1 if grouped else 1 << 30)
        yield


def coded_segment(
    modules: Sequence[Module], *, lanes: int = 32, grouped: bool = False, seed: int = 0
) -> Coded:
    """Encode Gaussian vectors of the strengths that modules say."""
    rng = np.random.default_rng(seed)
    components = [
        Component(number, energy, module.sizes)
        for number, module in enumerate(modules)
        for energy in module.energies
    ]
    layout = arrange(components)
    targets = np.zeros(layout.size, np.float32)
    parts: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in modules]
    for component, starts in zip(components, layout.starts, strict=True):
        parts[component.module].append((modules[component.module].gain, starts))
        for start, size in zip(starts, component.sizes, strict=True):
            rms = 2 ** (component.energy / 2) / math.sqrt(size)
            targets[start : start + size] = rng.normal(0, rms, size)
    described = tuple(module.described(number) for number, module in enumerate(modules))
    by_module = tuple(tuple(components) for components in parts)
    if not components:
        return Coded(described, by_module, (), layout, ())
    with lanes_of(lanes, grouped=grouped):
        made = segment.encode(targets, layout)
    return Coded(described, by_module, made.blocks, layout, made.planes)


def with_block(coded: Coded, block: bytes, number: int = -1) -> Coded:
    """Put another block in the place of one."""
    blocks = list(coded.blocks)
    blocks[number] = block
    return replace(coded, blocks=tuple(blocks))


@dataclass(frozen=True)
class Anatomy:
    """Say where the parts of a block lie."""

    head_at: int
    states_at: int
    groups_at: int
    words_at: int
    lanes: int
    words: int


def anatomy(coded: Coded, number: int = -1) -> Anatomy:
    """Find the parts of a block by the format's own description."""
    block = coded.blocks[number]
    plane = len(coded.blocks) - 1 - (number % len(coded.blocks))
    held = [count for count in coded.planes if count > plane]
    stored = [_chances(count, plane) for count in held]
    head_at = (len(held) if plane else 0) + sum(stored)
    told, words = struct.unpack_from("<HI", block, head_at)
    lanes = told & 0x7FFF
    groups_at = head_at + 6 + 4 * lanes
    words_at = groups_at + (4 * -(-lanes // 32) if told >> 15 else 0)
    return Anatomy(head_at, head_at + 6, groups_at, words_at, lanes, words)


def _chances(planes: int, plane: int) -> int:
    """Count the probabilities that a plane of a class takes."""
    if plane:
        return 3 if plane < planes - 1 else 1
    return (2, 4, 6)[min(planes, 3) - 1]


def patched(data: bytes, at: int, piece: bytes) -> bytes:
    """Put other bytes at a place."""
    return data[:at] + piece + data[at + len(piece) :]
