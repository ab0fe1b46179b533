"""Bring planes of levels to a device and lay out the work of every program that decodes them.

Nothing that a block claims is believed: `rate_distortion.planes` has checked what can be checked
without decoding, and every place that a kernel reads or writes is computed here from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compress.dtypes import Array
from compress.errors import OptionError
from compress.kernels.tensors import MAX_ELEMENTS, integers_on_device
from compress.lane_groups import GROUP_LANES
from compress.rate_distortion.decoder import Coded
from compress.rate_distortion.planes import Plane, read_planes

#: Every segment's pairs begin at a multiple of this: 128 bytes, and two words of a mask.
ALIGNMENT = 32
#: Lanes to a program, rounded up to one of these: few variants to compile.
_BLOCKS = (32, 128, 256, 512, 1024, 2048, 4096, 8192)
#: Columns of the plan of a group; `planes._decode_groups` reads them in this order.
_PLAN = 12


@dataclass(frozen=True, slots=True)
class Step:
    """Hold programs that may run at one time.

    Attributes:
        finest: whether they walk through the trellis.
        block: lanes to a program.
        plan: int64 [programs, 12] on the device.
    """

    finest: bool
    block: int
    plan: torch.Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Say where the levels of one segment lie in the buffer of all, and what they stand for.

    Attributes:
        first: its first pair.
        pairs: how many pairs it has in all.
        known: how many of them a known plane holds, the first ones; what follows is zero.
        finest: the plane that was decoded last; 0 gives values in steps, others levels.
        starts: int64 [classes], the first pair of every class of that plane.
        scales: float32 [classes], what its levels are multiplied with.
    """

    first: int
    pairs: int
    known: int
    finest: int
    starts: Array
    scales: Array


@dataclass(frozen=True, slots=True)
class PlaneBatch:
    """Hold the planes of segments on a device, checked as far as that goes without decoding.

    Attributes:
        places: where the levels of every segment go.
        pairs: pairs in the buffer of all levels.
        steps: what to launch, in order.
        states: int32 [all lanes].
        words: int16 [all words].
        tables: int64 [contexts, 2]: eight first slots of symbols, 16 bits each, in the order
            1, 2, 4, 5, 7, 8, 3, 6.
        classes: int32 [classes of all planes, 2]: first pair; first context · 4 + kinds.
    """

    places: tuple[Place, ...]
    pairs: int
    steps: tuple[Step, ...]
    states: torch.Tensor
    words: torch.Tensor
    tables: torch.Tensor
    classes: torch.Tensor


def upload(segments: Sequence[Coded], device: str) -> PlaneBatch:
    """Check the blocks of segments on the host and bring them to a device.

    Raises:
        TernDamagedError: a block is not whole or no encoder writes it.
        OptionError: they hold more than 2^30 values; decode them in several calls.
    """
    sizes = [-(-coded.layout.size // 2 // ALIGNMENT) * ALIGNMENT for coded in segments]
    firsts = [0, *np.cumsum(np.array(sizes, np.int64)).tolist()]
    if 2 * firsts[-1] > MAX_ELEMENTS:
        raise OptionError(
            "too many values for one launch",
            field="segments",
            expected=f"at most {MAX_ELEMENTS}",
            actual=str(2 * firsts[-1]),
            hint="decode fewer segments at a time",
        )
    builder = _Builder()
    places = []
    for coded, first in zip(segments, firsts, strict=False):
        planes = read_planes(coded.blocks, coded.layout, coded.planes) if coded.planes else []
        places.append(_place(coded, planes, first))
        known = 0
        for plane in planes:
            builder.add(plane, first=first, known=known)
            known = plane.pairs
    return PlaneBatch(
        places=tuple(places),
        pairs=firsts[-1],
        steps=builder.steps(device),
        states=_joined(builder.states, np.uint32, device),
        words=_joined(builder.words, np.uint16, device),
        tables=_joined(builder.tables, np.int64, device),
        classes=_joined(builder.classes, np.int32, device),
    )


def _place(coded: Coded, planes: Sequence[Plane], first: int) -> Place:
    if not planes:
        none = np.zeros(0, np.int64)
        return Place(first, coded.layout.size // 2, 0, 0, none, np.zeros(0, np.float32))
    last = planes[-1]
    scales = last.scales if last.number else np.ones(len(last.starts), np.float32)
    return Place(first, coded.layout.size // 2, last.pairs, last.number, last.starts, scales)


class _Builder:
    """Gather states, words and tables of planes, and what every program needs of them."""

    def __init__(self) -> None:
        self.states: list[Array] = []
        self.words: list[Array] = []
        self.tables: list[Array] = []
        self.classes: list[Array] = []
        self._plans: dict[tuple[int, int], list[Array]] = {}
        self._at = dict.fromkeys(("states", "words", "contexts", "classes"), 0)

    def add(self, plane: Plane, *, first: int, known: int) -> None:
        """Add a plane of a segment whose pairs begin at a place.

        Args:
            plane: the plane.
            first: the segment's first pair in the buffer.
            known: how many of its pairs the coarser plane holds.
        """
        stream, at = plane.stream, self._at
        lanes, grouped = len(stream.states), stream.group_words
        group_lanes = lanes if grouped is None else GROUP_LANES
        groups = np.arange(0, lanes, group_lanes)
        shared = np.array([len(stream.words)], np.int64)
        counts = shared if grouped is None else grouped.astype(np.int64)
        plan = np.empty((len(groups), _PLAN), np.int64)
        plan[:, 0] = at["states"] + groups
        plan[:, 1] = np.minimum(group_lanes, lanes - groups)
        plan[:, 2] = groups
        plan[:, 3] = lanes
        plan[:, 4] = plane.pairs
        plan[:, 5] = at["words"] + np.cumsum(counts) - counts
        plan[:, 6] = counts
        plan[:, 7] = first
        plan[:, 8] = known
        plan[:, 9] = at["classes"]
        plan[:, 10] = len(plane.starts)
        plan[:, 11] = at["contexts"]
        block = next(size for size in _BLOCKS if size >= min(group_lanes, lanes))
        self._plans.setdefault((-plane.number, block), []).append(plan)
        self.states.append(stream.states)
        self.words.append(stream.words)
        self.tables.append(_packed_starts(plane.widths))
        self.classes.append(_class_entries(plane))
        at["states"] += lanes
        at["words"] += len(stream.words)
        at["contexts"] += len(plane.widths)
        at["classes"] += len(plane.starts)

    def steps(self, device: str) -> tuple[Step, ...]:
        """Give what to launch: coarse planes of all segments, then finer ones."""
        return tuple(
            Step(not number, block, integers_on_device(np.concatenate(plans), device))
            for (number, block), plans in sorted(self._plans.items())
        )


def _packed_starts(widths: Array) -> Array:
    """Pack the first slots of symbols 1 to 8, each below 4096: int64 [2 · contexts]."""
    starts = np.cumsum(widths[:, :8], axis=1, dtype=np.uint32).astype("<u2")
    order = np.array([1, 2, 4, 5, 7, 8, 3, 6]) - 1
    return np.ascontiguousarray(starts[:, order]).view("<i8").reshape(-1)


def _class_entries(plane: Plane) -> Array:
    entries = np.empty((len(plane.starts), 2), np.int32)
    entries[:, 0] = plane.starts
    entries[:, 1] = plane.bases * 4 + np.array(plane.kinds)
    return entries.reshape(-1)


def _joined(pieces: Sequence[Array], dtype: type, device: str) -> torch.Tensor:
    """Join pieces on a device; never empty, so that a kernel always has an address."""
    whole: Array = np.concatenate([*pieces, np.zeros(2, dtype)]).astype(dtype, copy=False)
    return integers_on_device(whole, device)
