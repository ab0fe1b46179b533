"""Take the blocks of a segment apart for who decodes them elsewhere, such as on a GPU.

All that can be checked without decoding is checked here: what a kernel then reads and writes lies
within sizes that agree. The reference that decodes them is `segment.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress import rans
from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.rate_distortion import pairs
from compress.rate_distortion.layout import Layout
from compress.rate_distortion.segment import KAPPA_ONE, classes_with, kind_count, unpack


@dataclass(frozen=True, slots=True)
class Plane:
    """Hold one plane of a segment, not decoded yet.

    Attributes:
        number: 0 is the finest.
        pairs: how many pairs of levels it holds, the first ones of the segment.
        starts: int64 [classes], the first pair of every class that has the plane.
        bases: int64 [classes], the first context of every class.
        kinds: by class, how many kinds of coarser values come: 1 to 3.
        widths: uint32 [contexts, 9], how often each symbol comes, of 4096; none is zero.
        scales: float32 [classes], what a level is multiplied with while finer planes are unknown;
            empty in the finest plane.
        stream: states, all in their range, and words, of which every group of lanes has its own or
            all share them.
    """

    number: int
    pairs: int
    starts: Array
    bases: Array
    kinds: tuple[int, ...]
    widths: Array
    scales: Array
    stream: rans.Stream


def read_planes(blocks: Sequence[bytes], layout: Layout, planes: Sequence[int]) -> list[Plane]:
    """Take the coarsest planes of a segment apart.

    Args:
        blocks: bytes by plane, coarsest first; as many as are known.
        layout: where the classes lie.
        planes: by class, how many planes its levels have in all.

    Raises:
        TernDamagedError: a block is not whole or no encoder writes it.
    """
    most = max(planes)
    if len(blocks) > most:
        raise TernDamagedError("a segment has more planes than its levels need", field="layer")
    return [
        _read(data, layout, planes, number)
        for number, data in zip(range(most - 1, -1, -1), blocks, strict=False)
    ]


def _read(data: bytes, layout: Layout, planes: Sequence[int], number: int) -> Plane:
    held = classes_with(number, planes)
    count = int(layout.bounds[held]) // 2
    block = unpack(data, planes[:held], number, count=count)
    pairs.check(block.stream, count)
    kinds = tuple(kind_count(classes, number) for classes in planes[:held])
    widths, _, contexts = pairs.frequencies(block.digits, kinds, finest=not number)
    return Plane(
        number=number,
        pairs=count,
        starts=layout.bounds[:held] // 2,
        bases=np.cumsum([0, *contexts[:-1]]),
        kinds=kinds,
        widths=widths,
        scales=block.kappas.astype(np.float32) * np.float32(2 * 3**number / KAPPA_ONE),
        stream=block.stream,
    )
