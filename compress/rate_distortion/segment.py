"""Turn the vectors of some modules into planes of digits in bytes, and back.

A segment is what is coded at one time: its planes, finest last, are blocks of their own, so that
the coarse planes of all segments can stand before the finer ones. A block is

    kappas u8 [classes] (not in the finest plane) · probabilities u8 […] · u16 lanes · u32 words ·
    u32 states [lanes] · u32 group words [⌈lanes/32⌉] · u16 words [words]

Bit 15 of the lanes says whether every 32 of them have words of their own (`compress.lane_groups`),
as they do where a GPU would have use for it; only then are there group words.

A kappa is what a level of a class is multiplied with while finer planes are not known, of 128: the
mean of what they would make of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress import lane_groups, loops, rans
from compress.dtypes import Array
from compress.errors import TernDamagedError
from compress.rate_distortion import models, pairs, trellis, viterbi
from compress.rate_distortion.digits import MAX_PLANES, digit_table, magnitudes
from compress.rate_distortion.layout import Layout

#: Bits that are worth a squared step; the best of those tried on real adapters at 0.25 to 2 bits.
PER_BIT = 0.35
KAPPA_ONE = 128
#: What a magnitude that hardly came is guessed to take: as little as a sketch can pay.
_IMPROBABLE = np.float32(10)
#: A plane is decoded in about so many rows at most, until there are as many lanes as can be.
_ROWS = 2048
#: What saturating may cost, in squared steps a value; quantising costs about 0.3.
_SATURATION = 5e-4
_HEAD = struct.Struct("<HI")
_GROUPED = 1 << 15
_PASSES = 3


#: By class, float32 [2, magnitudes]: what its magnitudes are expected to take.
Guess = dict[int, Array]


@dataclass(frozen=True, slots=True)
class Coded:
    """Hold what the encoder made of a segment.

    Attributes:
        blocks: bytes by plane, finest last.
        planes: by class, how many planes its levels need.
        levels: int16 [n].
        states: uint8 [n], the state of the trellis at every level.
        entropy_bits: the Shannon bound of the digits, given what each is coded with.
        learned: by class, the bits of its magnitudes: a guess for the next step.
    """

    blocks: tuple[bytes, ...]
    planes: tuple[int, ...]
    levels: Array
    states: Array
    entropy_bits: float
    learned: Guess

    @property
    def values(self) -> Array:
        """Give what the levels stand for, in steps: int16 [n]."""
        return trellis.values(self.levels, self.states)


def encode(
    targets: Array,
    layout: Layout,
    *,
    weights: Array | None = None,
    max_planes: int = MAX_PLANES,
    guess: Guess | None = None,
) -> Coded:
    """Choose levels for values in steps and code them.

    Args:
        targets: float32 [layout.size]; padding is zero.
        layout: where the classes lie.
        weights: float32 [layout.size], how much squared errors count; None means 1.
        max_planes: how many planes levels may take; what is larger saturates.
        guess: what an earlier, similar segment learned; one search less is then enough.
    """
    numbers = np.arange(len(layout.classes), dtype=np.uint8)
    classes = layout.spread(numbers)
    planes = _needed_planes(targets, layout, max_planes)
    largest = np.array([magnitudes(count) - 1 for count in planes], np.int16)
    bits = _first_guess(targets, layout, guess or {})[:, :, : magnitudes(planes[0])]
    lanes = _lanes(_payload_bytes(targets, classes, bits), len(targets) // 2)
    for _ in range(_PASSES - bool(guess)):
        price = viterbi.Price(bits, PER_BIT, largest)
        levels = viterbi.search(targets, classes, price, lanes=lanes, weights=weights)
        states = trellis.walk(levels, lanes=lanes)
        histogram = _histogram(levels, states, classes, bits.shape[2])
        fitted = models.fit_all(histogram)
        bits = np.stack([model.bits(planes[0]) for model in fitted])
    blocks = _write_planes(levels, states, histogram, layout, fitted, lanes=lanes)
    entropy = sum(
        models.entropy_bits(counts, model.planes)
        for counts, model in zip(histogram, fitted, strict=True)
    )
    learned = {kind: np.array(table) for kind, table in zip(layout.classes, bits, strict=True)}
    found = tuple(model.planes for model in fitted)
    return Coded(tuple(reversed(blocks)), found, levels, states, entropy, learned)


def _needed_planes(targets: Array, layout: Layout, most: int) -> list[int]:
    """Give every class the fewest planes with which saturating costs next to nothing.

    A plane for a few outliers takes as long to decode as any other.
    """
    needed: list[int] = []
    for begin, end in zip(layout.bounds[:-1], layout.bounds[1:], strict=True):
        sizes = np.abs(targets[begin:end]).astype(np.float64)
        allowed = _SATURATION * (end - begin)
        planes = 1
        while planes < most and _excess(sizes, planes) > allowed:
            planes += 1
        needed.append(planes)
    return [max(needed[number:]) for number in range(len(needed))]


def _excess(sizes: Array, planes: int) -> float:
    """Sum the squares of what lies beyond the largest level of so many planes, in squared steps."""
    return float(np.square(np.maximum(sizes - (2 * magnitudes(planes) - 1), 0)).sum())


def _first_guess(targets: Array, layout: Layout, learned: Guess) -> Array:
    """Take what was learned, or guess as for Gaussian values: float32 [classes, 2, magnitudes]."""
    guesses = np.empty((len(layout.classes), 2, magnitudes(MAX_PLANES)), np.float32)
    ends = zip(layout.classes, layout.bounds[:-1], layout.bounds[1:], strict=True)
    for number, (kind, begin, end) in enumerate(ends):
        energy = float(np.square(targets[begin:end], dtype=np.float64).mean())
        guesses[number] = _gaussian(max(0.12, energy))
        if kind in learned:
            known = learned[kind]
            guesses[number, :, : known.shape[1]] = np.minimum(known, _IMPROBABLE)
    return guesses


def _gaussian(energy: float) -> Array:
    """Give the bits of the magnitudes of Gaussian values of this mean square: [2, magnitudes]."""
    sizes = np.arange(magnitudes(MAX_PLANES))
    bits = []
    for quantiser in (0, 1):
        reached = 2 * sizes - quantiser * (sizes > 0)
        weights = np.exp(-np.minimum(reached**2 / (2 * energy), 25))
        weights[1:] *= 2
        bits.append(np.log2(weights.sum() / weights) + (sizes > 0))
    return np.array(bits)


def _payload_bytes(targets: Array, classes: Array, bits: Array) -> float:
    """Estimate what values take."""
    nearest = (np.abs(targets) * np.float32(0.5)).astype(np.int64)
    np.minimum(nearest, bits.shape[2] - 1, out=nearest)
    place = classes.astype(np.int64) * bits.shape[2] + nearest
    return float(bits[:, 0].reshape(-1).take(place).sum()) / 8


def _lanes(payload_bytes: float, symbols: int) -> int:
    """Choose so many lanes that they cost little and no plane takes many rows."""
    cheap = int(payload_bytes) // rans.PAYLOAD_PER_LANE
    return min(max(1, cheap, symbols // _ROWS), rans.MAX_LANES, symbols)


def _histogram(levels: Array, states: Array, classes: Array, sizes: int) -> Array:
    """Count magnitudes: int64 [classes, 2 quantisers, sizes]."""
    cell = (classes.astype(np.int64) * 2 + (states & 1)) * sizes + np.abs(levels)
    count = int(classes[-1]) + 1
    return np.bincount(cell, minlength=count * 2 * sizes).reshape(count, 2, sizes)


def _write_planes(
    levels: Array,
    states: Array,
    histogram: Array,
    layout: Layout,
    fitted: Sequence[models.ClassModel],
    *,
    lanes: int,
) -> list[bytes]:
    """Code plane after plane, finest first."""
    sizes = np.abs(levels)
    signs = np.where(levels < 0, np.int16(-1), np.int16(1))
    table, coarser = digit_table(max(model.planes for model in fitted))
    blocks = []
    for plane in range(len(table)):
        held = classes_with(plane, [model.planes for model in fitted])
        end = int(layout.bounds[held])
        above = coarser[plane].take(sizes[:end])
        digits = table[plane].take(sizes[:end])
        digits = np.where(above == 0, digits * signs[:end], digits)
        tables = _tables([model.digits[plane] for model in fitted[:held]], fitted[:held], plane)
        of_pair = pairs.contexts(tables, above, layout.bounds[: held + 1])
        if not plane:
            of_pair += states[:end:2]
        count = lanes if not plane else _lanes_for(digits, of_pair, tables)
        stream = pairs.encode(digits, of_pair, tables, lanes=count)
        kappas = _kappas(histogram, held=held, plane=plane)
        written = b"".join(models.write(model, plane) for model in fitted[:held])
        blocks.append(kappas + written + _pack(stream))
    return blocks


def classes_with(plane: int, planes: Sequence[int]) -> int:
    """Count the classes up to the last that has a plane; weaker ones have none there."""
    return max(number + 1 for number, count in enumerate(planes) if count > plane)


def _lanes_for(digits: Array, of_pair: Array, tables: pairs.PlaneTables) -> int:
    symbols = (digits[::2] * 3 + digits[1::2] + 4).astype(np.int64)
    bits = rans.self_information(tables.tables).reshape(-1)
    payload = float(bits.take(of_pair.astype(np.int64) * 9 + symbols).sum()) / 8
    return _lanes(payload, len(of_pair))


def _tables(
    digits: Sequence[Array], fitted: Sequence[models.ClassModel], plane: int
) -> pairs.PlaneTables:
    kinds = [kind_count(model.planes, plane) for model in fitted]
    return pairs.build_tables(digits, kinds, finest=not plane)


def kind_count(planes: int, plane: int) -> int:
    """Count the kinds of coarser values above a plane."""
    above = max(0, planes - 1 - plane)
    return min(above + 1, 2 if plane else 3)


def _kappas(histogram: Array, *, held: int, plane: int) -> bytes:
    """Compute, by class, what a level means while only this plane and coarser ones are known.

    That is the factor on what is known that errs least: Σ known · value / Σ known².
    """
    if not plane:
        return b""
    sizes, unit = np.arange(histogram.shape[2]), 3**plane
    known = 2 * ((sizes + unit // 2) // unit * unit)
    values = 2 * sizes - np.array([[0], [1]]) * (sizes > 0)
    kappas = []
    for counts in histogram[:held]:
        energy = int((counts * known**2).sum())
        share = int((counts * known * values).sum()) / energy if energy else 0.0
        kappas.append(min(255, max(0, round(share * KAPPA_ONE))))
    return bytes(kappas)


def _pack(stream: rans.Stream) -> bytes:
    flag = 0 if stream.group_words is None else _GROUPED
    return _HEAD.pack(len(stream.states) | flag, len(stream.words)) + stream.tobytes()


@dataclass(frozen=True, slots=True)
class Block:
    """Hold a plane's block, taken apart."""

    kappas: Array
    digits: list[Array]
    stream: rans.Stream


def decode(blocks: Sequence[bytes], layout: Layout, planes: Sequence[int]) -> Array:
    """Decode the coarsest planes of a segment, or all of them.

    Args:
        blocks: bytes by plane, coarsest first; as many as are known.
        layout: as for the encoder.
        planes: by class, how many planes its levels have in all.

    Returns:
        float32 [layout.size]: values in steps.

    Raises:
        TernDamagedError: a block is not whole or no encoder writes it.
    """
    most = max(planes)
    if len(blocks) > most:
        raise TernDamagedError("a segment has more planes than its levels need", field="layer")
    above = np.zeros(0, np.int16)
    states, kappas, plane = np.zeros(0, np.uint8), np.zeros(0, np.uint8), most
    for plane, data in zip(range(most - 1, -1, -1), blocks, strict=False):
        held = classes_with(plane, planes)
        bounds = layout.bounds[: held + 1]
        block = unpack(data, planes[:held], plane, count=int(bounds[-1]) // 2)
        kinds = [kind_count(count, plane) for count in planes[:held]]
        tables = pairs.build_tables(block.digits, kinds, finest=not plane)
        above = np.concatenate([above, np.zeros(int(bounds[-1]) - len(above), np.int16)])
        above, states = pairs.decode(block.stream, above, bounds, tables)
        kappas = block.kappas
    if plane:
        return _coarse_values(above, kappas, plane, layout)
    return _fine_values(above, states)


def _coarse_values(known: Array, kappas: Array, plane: int, layout: Layout) -> Array:
    values = np.zeros(layout.size, np.float32)
    scales = kappas.astype(np.float32) * np.float32(2 * 3**plane / KAPPA_ONE)
    values[: len(known)] = known * np.repeat(scales, np.diff(layout.bounds[: len(kappas) + 1]))
    return values


def _fine_values(levels: Array, before: Array) -> Array:
    """Give values from levels and the state before every pair of them."""
    code = loops.machine_code("planes", symbols=len(before))
    if code is not None:
        values = np.empty(len(levels), np.float32)
        code.values(levels, before, values)
        return values
    states = np.empty(len(levels), np.uint8)
    states[::2] = before
    states[1::2] = trellis.FOLLOWING.take(before << 1 | (levels[::2] & 1).astype(np.uint8))
    return trellis.values(levels, states).astype(np.float32)


def unpack(data: bytes, planes: Sequence[int], plane: int, *, count: int) -> Block:
    """Take a plane's block apart.

    Args:
        data: the block.
        planes: of the classes that have the plane.
        plane: its number.
        count: how many pairs of levels it holds.

    Raises:
        TernDamagedError: it is not whole, holds chances out of their range, or has so few lanes
            that decoding it would take for ever.
    """
    sizes = [models.size_bytes(count, plane) for count in planes]
    head_at = (len(planes) if plane else 0) + sum(sizes)
    if len(data) < head_at + _HEAD.size:
        raise TernDamagedError("a plane is cut off", field="layer")
    told, words = _HEAD.unpack_from(data, head_at)
    lanes = told & ~_GROUPED
    groups = lane_groups.group_count(lanes) if told & _GROUPED else 0
    states_at = head_at + _HEAD.size
    words_at = states_at + 4 * (lanes + groups)
    if len(data) != words_at + 2 * words or lanes > rans.MAX_LANES:
        raise TernDamagedError("a plane has another size than it says", field="layer")
    if lanes < min(count // _ROWS, rans.MAX_LANES):
        raise TernDamagedError("a plane has fewer lanes than an encoder takes", field="layer")
    at = len(planes) if plane else 0
    digits = []
    for of_class, size in zip(planes, sizes, strict=True):
        digits.append(models.read(data[at : at + size], of_class, plane))
        at += size
    group_words = np.frombuffer(data, "<u4", groups, states_at + 4 * lanes)
    return Block(
        kappas=np.frombuffer(data, np.uint8, len(planes) if plane else 0),
        digits=digits,
        stream=rans.Stream(
            np.frombuffer(data, "<u4", lanes, states_at),
            np.frombuffer(data, "<u2", words, words_at),
            group_words if told & _GROUPED else None,
        ),
    )
