"""Describe the components of a whole adapter with one step: choose, order, quantise, refit.

One step for all vectors σu and σv spends bits where they buy most: what is weak against the step
falls to zero by itself, and a component that the water-filling of the whole adapter leaves out is
not described at all. A module that would be erased is sketched instead, unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.dtypes import Array
from compress.layers import Unit
from compress.rate_distortion import segment, side
from compress.rate_distortion.choice import Chosen, choose, sketch
from compress.rate_distortion.components import Components
from compress.rate_distortion.digits import MAX_PLANES
from compress.rate_distortion.layout import Layout, arrange
from compress.rate_distortion.refit import refit
from compress.rate_distortion.segment import Guess
from compress.water_filling import Spectrum, fill

#: Elements of the modules that are coded together.
SEGMENT_PARAMETERS = 1 << 24
#: A module of whose energy this much is left over counts as erased.
_ERASED = 0.9975
#: How much more than just enough sketches say, from one trial to the next.
_EFFORTS = (2.0, 6.0, 20.0)


@dataclass(frozen=True, slots=True)
class Options:
    """Say how an adapter is described.

    Attributes:
        step: of the quantiser, in units of σ.
        own_steps: by module, the coarsest step that it may have.
        unit: what gains are relative to.
        max_planes: how many planes the levels may take.
        keep_modules: keep something of every module.
        most_components: keep so many of the worthwhile components, strongest first; None keeps all.
    """

    step: float
    own_steps: tuple[float, ...]
    unit: Unit
    max_planes: int = MAX_PLANES
    keep_modules: bool = True
    most_components: int | None = None

    @property
    def steps(self) -> tuple[float, ...]:
        """Give the step of every module."""
        return tuple(min(self.step, own) for own in self.own_steps)


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold one coded segment.

    Attributes:
        first: position of its first module in the adapter.
        modules: how many modules it has.
        side: bytes of its components' energies and gains.
        blocks: bytes by plane, coarsest first.
        entropy_bits: Shannon bound of its digits, given what each is coded with, and of its side.
        left_over: estimated energy, by module, that stays undescribed.
        kept: by module, how many components are described.
        worthwhile: how many of them are no sketches.
    """

    first: int
    modules: int
    side: bytes
    blocks: tuple[bytes, ...]
    entropy_bits: float
    left_over: tuple[float, ...]
    kept: tuple[int, ...]
    worthwhile: int

    @property
    def size_bytes(self) -> int:
        """Count the bytes of side and blocks."""
        return len(self.side) + sum(len(block) for block in self.blocks)


def spectrum(modules: Sequence[Components], boosts: Sequence[float]) -> Spectrum:
    """Gather the energies of all modules, boosted ones as if they were stronger."""
    if not modules:
        return Spectrum(np.zeros(0), np.zeros(0), np.zeros(0), 0)
    energies, d_out, d_in, parameters = [], [], [], 0
    for module, boost in zip(modules, boosts, strict=True):
        count = len(module.sigmas)
        energies.append(module.energies * boost**2)
        d_out.append(np.full(count, float(module.sizes[0])))
        # a vector alone has no partner to describe
        d_in.append(np.full(count, float(module.sizes[1]) if len(module.sizes) == 2 else 1e-9))
        parameters += sum(module.sizes) * count
    return Spectrum(
        np.concatenate(energies), np.concatenate(d_out), np.concatenate(d_in), parameters
    )


def split(modules: Sequence[Components]) -> list[tuple[int, int]]:
    """Group modules into segments: first and one beyond the last of each."""
    groups, start, held = [], 0, 0
    for number, module in enumerate(modules):
        size = sum(module.sizes) * len(module.sigmas)
        if number > start and held + size > SEGMENT_PARAMETERS:
            groups.append((start, number))
            start, held = number, 0
        held += size
    return [*groups, (start, len(modules))] if modules else []


def encode(
    modules: Sequence[Components], options: Options, *, learned: Guess | None = None
) -> Iterator[Segment]:
    """Describe the modules of an adapter, one segment after another.

    Args:
        modules: their components.
        options: how.
        learned: what earlier segments learned about classes; what these learn is added.
    """
    learned = {} if learned is None else learned
    kept, steps = _water_filled(modules, options), options.steps
    for first, last in split(modules):
        part = modules[first:last]
        chosen = [
            _choose(module, number, (kept[first + number], steps[first + number]), options)
            for number, module in enumerate(part)
        ]
        coded = _encode_segment(part, chosen, first, (options, learned))
        for effort in _EFFORTS if options.keep_modules else ():
            lost = _erased(part, coded)
            if not lost:
                break
            for number in lost:
                chosen[number] = sketch(part[number], number, effort)
            coded = _encode_segment(part, chosen, first, (options, learned))
        yield coded


def _choose(
    module: Components, number: int, how: tuple[Array, float], options: Options
) -> list[Chosen]:
    """Choose what is worth its bits, or a sketch where that is nothing."""
    kept, step = how
    if options.keep_modules and not kept.any():
        return sketch(module, number, 1.0)
    return choose(module, number, kept, (step, options.max_planes))


def _erased(modules: Sequence[Components], coded: Segment) -> list[int]:
    """List the modules of which nothing is left that had an effect."""
    norms = [float(module.energies.sum()) for module in modules]
    return [
        number
        for number, (left, norm) in enumerate(zip(coded.left_over, norms, strict=True))
        if norm and left >= _ERASED * norm
    ]


def _water_filled(modules: Sequence[Components], options: Options) -> list[Array]:
    """Say, by module, which components are worth their bits: bool [n]."""
    whole = spectrum(modules, [options.step / step for step in options.steps])
    if not len(whole.energies):
        return [np.zeros(0, np.bool_) for _ in modules]
    kept = fill(whole, segment.PER_BIT * options.step**2).kept
    if options.most_components is not None:
        # about in the order in which they would come if bits became cheaper
        strength = np.where(kept, whole.energies / (whole.d_out + whole.d_in), -1.0)
        kept[np.argsort(-strength, kind="stable")[options.most_components :]] = False
    ends = np.cumsum([len(module.sigmas) for module in modules])
    return np.split(kept, ends[:-1])


def _encode_segment(
    modules: Sequence[Components],
    by_module: Sequence[Sequence[Chosen]],
    first: int,
    how: tuple[Options, Guess],
) -> Segment:
    options, learned = how
    chosen = [one for many in by_module for one in many]
    layout = arrange([one.described for one in chosen])
    left_over = [float(module.energies.sum()) for module in modules]
    if not chosen:
        written = side.write(side.Side((), (), ()), len(modules))
        none = (0,) * len(modules)
        return Segment(first, len(modules), written, (), 0.0, tuple(left_over), none, 0)
    targets, weights = _targets(modules, chosen, layout)
    coded = segment.encode(
        targets, layout, weights=weights, max_planes=options.max_planes, guess=learned
    )
    learned.update(coded.learned)
    values = coded.values
    gains = []
    at = 0
    for number, many in enumerate(by_module):
        places = layout.starts[at : at + len(many)]
        at += len(many)
        if many:
            said = [_cut(values, one, starts) for one, starts in zip(many, places, strict=True)]
            own, left_over[number] = refit(modules[number], many, said, options.unit)
            gains += own
    described = tuple(one.described for one in chosen)
    told = side.Side(described, tuple(gains), coded.planes)
    kept = np.bincount([one.described.module for one in chosen], minlength=len(modules))
    return Segment(
        first,
        len(modules),
        side.write(told, len(modules)),
        coded.blocks,
        coded.entropy_bits + side.entropy_bits(told, len(modules)),
        tuple(left_over),
        tuple(int(count) for count in kept),
        sum(not one.emphasis for one in chosen),
    )


def _targets(
    modules: Sequence[Components], chosen: Sequence[Chosen], layout: Layout
) -> tuple[Array, Array | None]:
    """Lay out what is to be described, in steps, and how much its errors count."""
    targets = np.zeros(layout.size, np.float32)
    weighted = any(module.right_weights is not None for module in modules)
    weighted |= any(one.emphasis for one in chosen)
    weights = np.ones(layout.size, np.float32) if weighted else None
    for one, starts in zip(chosen, layout.starts, strict=True):
        module = modules[one.described.module]
        for aims, start in zip(one.targets, starts, strict=True):
            targets[start : start + len(aims)] = aims
            if weights is not None and one.emphasis:
                weights[start : start + len(aims)] = one.emphasis
        if weights is not None and module.right_weights is not None and not one.emphasis:
            u, v = starts
            weights[u : u + len(module.left)] = module.left_weights[one.column]
            weights[v : v + len(module.right_weights)] = module.right_weights
    return targets, weights


def _cut(values: Array, one: Chosen, starts: Sequence[int]) -> list[Array]:
    """Give the coded vectors of one component."""
    return [
        values[start : start + len(aims)] for aims, start in zip(one.targets, starts, strict=True)
    ]
