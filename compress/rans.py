"""Code small symbols at their entropy with interleaved range asymmetric numeral systems (rANS).

J. Duda, "Asymmetric numeral systems" (2013), range variant; interleaving after F. Giesen,
"Interleaved entropy coders" (2014). Every symbol may have a table of its own, chosen by a context
that the decoder knows in advance. Lane l codes symbols l, l+L, l+2L, …; all L lanes take the same
step at once, so NumPy works on whole rows and a GPU can map a lane to a thread. States are 32 bits
in [2¹⁶, 2³²); a lane that falls below 2¹⁶ takes the next 16-bit word, of one stream that all lanes
share, in rising order, or of the stream of its group (`lane_groups.py`).

Start at `encode` and `decode`. What a stream's head looks like is for the callers to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress import lane_groups, loops
from compress.dtypes import Array
from compress.errors import OptionError, TernDamagedError
from compress.lane_groups import GROUP_LANES, GROUPED_FROM, Spans, Words, group_count, sort_words

MAX_SYMBOLS = 256
MAX_BITS = 16
#: All slots of all contexts together; bounds what a hostile table can make us hold (160 MiB).
MAX_SLOTS = 1 << 25
#: A lane costs about 3 bytes; at this many payload bytes per lane that is 0.6 %.
PAYLOAD_PER_LANE = 512
MIN_LANES, MAX_LANES = 8, 8192
LOW = 1 << 16


@dataclass(frozen=True)
class Tables:
    """Hold how often each symbol comes in each context, ready for both directions.

    Attributes:
        bits: probabilities are multiples of 2^-bits, at most 16.
        frequencies: uint32 [contexts, symbols]; every row sums to 2^bits, symbols ≤ 256.

    Raises:
        TernDamagedError: the frequencies are not of this form, or a symbol is certain at 16 bits.
    """

    bits: int
    frequencies: Array

    def __post_init__(self) -> None:
        """Check the frequencies."""
        _check_frequencies(self.frequencies, self.bits)
        object.__setattr__(self, "frequencies", np.ascontiguousarray(self.frequencies, np.uint32))

    @cached_property
    def starts(self) -> Array:
        """Give the first slot of every symbol: uint32 [contexts * symbols]."""
        widths = self.frequencies
        return np.asarray((np.cumsum(widths, axis=1, dtype=np.uint32) - widths).reshape(-1))

    @cached_property
    def _owners(self) -> Array:
        """Give the symbol, of all contexts, of every slot: int32 [contexts << bits]."""
        flat = self.frequencies.reshape(-1)
        return np.repeat(np.arange(len(flat), dtype=np.int32), flat)

    @cached_property
    def slots(self) -> Array:
        """Give the width of every slot's symbol, and from bit 16 its place there: uint32."""
        owner = self._owners
        slot = np.tile(np.arange(1 << self.bits, dtype=np.uint32), self.contexts)
        widths = self.frequencies.reshape(-1).take(owner)
        return np.asarray((slot - self.starts.take(owner)) << np.uint32(16) | widths)

    @cached_property
    def symbols(self) -> Array:
        """Give the symbol of every slot: uint8 [contexts << bits]."""
        return np.asarray((self._owners % self.frequencies.shape[1]).astype(np.uint8))

    @property
    def contexts(self) -> int:
        """Count the contexts."""
        return len(self.frequencies)

    @property
    def certain(self) -> Array:
        """Say for every context whether only one symbol can come: bool [contexts]."""
        return np.asarray(self.frequencies.max(axis=1) == 1 << self.bits)


@dataclass(frozen=True, slots=True)
class Stream:
    """Hold what lanes leave behind, which is what a decoder begins with.

    Attributes:
        states: uint32 [lanes].
        words: uint16 [n], in the order in which lanes take them, or group after group.
        group_words: unsigned [groups], how many words every 32 lanes have; None if all lanes share
            them.
    """

    states: Array
    words: Array
    group_words: Array | None

    def tobytes(self) -> bytes:
        """Write states, group words and words, little-endian, without how many there are."""
        groups = b"" if self.group_words is None else self.group_words.astype("<u4").tobytes()
        return self.states.astype("<u4").tobytes() + groups + self.words.astype("<u2").tobytes()


def choose_lanes(payload_bytes: float, count: int) -> int:
    """Choose how many lanes code so many symbols of so many bytes in all: fast, yet cheap."""
    lanes = min(max(int(payload_bytes) // PAYLOAD_PER_LANE, MIN_LANES), MAX_LANES)
    return min(lanes, count)


def cost_bits(counts: Array, tables: Tables) -> float:
    """Compute the bits of an ideal coder for int64 [contexts, symbols] counts."""
    present = counts > 0
    with np.errstate(divide="ignore"):
        bits = self_information(tables)[present]
    return float((counts[present] * bits).sum())


def self_information(tables: Tables) -> Array:
    """Give the bits that every symbol costs in every context: float64 [contexts, symbols].

    A symbol that cannot come costs infinitely much.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(tables.bits - np.log2(tables.frequencies))


def encode(
    symbols: Array, contexts: Array | None, tables: Tables, *, lanes: int
) -> tuple[Array, Array]:
    """Code symbols, last row first.

    Args:
        symbols: uint8 [n].
        contexts: unsigned [n], the row of `tables` for every symbol; None means row 0.
        tables: gives every symbol that comes a frequency above zero.
        lanes: in 1…n; 0 only where all symbols are certain, which takes no bytes at all.

    Returns:
        States uint32 [lanes] and words uint16 in the order in which `decode` takes them.

    Raises:
        OptionError: a symbol, a context or the number of lanes is out of its range.
    """
    states, words, _ = encode_with_takers(symbols, contexts, tables, lanes=lanes)
    return states, words


def encode_with_takers(
    symbols: Array, contexts: Array | None, tables: Tables, *, lanes: int
) -> tuple[Array, Array, Array]:
    """Code symbols as `encode` does, and tell which lane takes each word.

    Args:
        symbols: uint8 [n].
        contexts: unsigned [n], or None for row 0.
        tables: gives every symbol that comes a frequency above zero.
        lanes: in 1…n; 0 only where all symbols are certain.

    Returns:
        States uint32 [lanes], words uint16 [words] and lanes uint16 [words].

    Raises:
        OptionError: a symbol, a context or the number of lanes is out of its range.
    """
    index = _symbol_index(symbols, contexts, tables)
    if not 0 <= lanes <= len(symbols):
        raise OptionError(
            "out of range", field="lanes", expected=f"1 to {len(symbols)}", actual=str(lanes)
        )
    states = np.full(lanes, LOW, np.uint32)
    if not lanes:
        if len(symbols) and not _all_certain(symbols, contexts, tables):
            raise OptionError("symbols that are not certain need lanes", field="lanes")
        return states, np.empty(0, "<u2"), np.empty(0, np.uint16)
    code = loops.machine_code("rans", symbols=len(index))
    if code is None:
        return states, *_encode_rows(states, index, tables)
    words, takers = np.empty(len(index), "<u2"), np.empty(len(index), np.uint16)
    widths = tables.frequencies.reshape(-1)
    at = code.encode_rows(states, index, widths, tables.starts, tables.bits, words, takers)
    if at < 0:
        raise _no_frequency()
    return states, words[at:], takers[at:]


def encode_stream(
    symbols: Array,
    contexts: Array | None,
    tables: Tables,
    *,
    lanes: int,
    grouped: bool | None = None,
) -> Stream:
    """Code symbols as `encode` does, with words for every 32 lanes where there are many lanes.

    Args:
        symbols: uint8 [n].
        contexts: unsigned [n], or None for row 0.
        tables: gives every symbol that comes a frequency above zero.
        lanes: in 1…n; 0 only where all symbols are certain.
        grouped: whether groups have their own words; None means from `GROUPED_FROM` lanes on.

    Raises:
        OptionError: a symbol, a context or the number of lanes is out of its range.
    """
    states, words, takers = encode_with_takers(symbols, contexts, tables, lanes=lanes)
    if not lanes or not (lanes >= GROUPED_FROM if grouped is None else grouped):
        return Stream(states, words, None)
    return Stream(states, *sort_words(words, takers, lanes))


def decode(
    states: Array,
    words: Array,
    contexts: Array | None,
    tables: Tables,
    *,
    count: int,
    group_words: Array | None = None,
) -> Array:
    """Undo `encode`; check that states and words end exactly where the encoder began.

    Args:
        states: uint32 [lanes].
        words: uint16.
        contexts: unsigned [count], or None for row 0.
        tables: those of the encoder.
        count: number of symbols.
        group_words: unsigned [⌈lanes/32⌉], how many words every group of lanes has, if words are
            sorted by group; None where all lanes share them.

    Returns:
        uint8 [count].

    Raises:
        TernDamagedError: no encoder gives these states and words.
    """
    if contexts is not None:
        if len(contexts) != count:
            raise TernDamagedError("there is not one context per symbol", field="contexts")
        if count and int(contexts.max()) >= tables.contexts:
            raise TernDamagedError("a context is out of its range", field="contexts")
    symbols = np.empty(count, np.uint8)
    if not len(states):
        rows = np.zeros(count, np.uint8) if contexts is None else contexts
        if len(words) or not tables.certain.take(rows).all():
            raise TernDamagedError("a stream has no lanes", field="lanes")
        return np.asarray(tables.frequencies.argmax(axis=1).astype(np.uint8).take(rows))
    if len(states) > count:
        raise TernDamagedError("a stream has lanes without use", field="lanes")
    if int(states.min()) < LOW:
        raise TernDamagedError("a state is out of its range", field="states")
    lane_groups.check(words, group_words, lanes=len(states))
    x = states.astype(np.uint32)
    code = loops.machine_code("rans", symbols=count)
    if code is None:
        source = lane_groups.source(words, group_words)
        decode_rows(x, source, contexts, tables, symbols)
        spent = source.spent
    else:
        spans = Spans(words, group_words, lanes=len(states))
        rows = np.zeros(count, np.uint8) if contexts is None else contexts
        places = (spans.words, spans.at, spans.lanes, rows)
        code.decode_rows(x, *places, tables.slots, tables.symbols, tables.bits, symbols)
        spent = spans.spent
    if not spent or (x != LOW).any():
        raise TernDamagedError("a stream does not end where it should", field="words")
    return symbols


def _encode_rows(states: Array, index: Array, tables: Tables) -> tuple[Array, Array]:
    """Run all lanes from the last row to the first; leave final states; give words and takers.

    Raises:
        OptionError: a symbol has no frequency.

    Quotients come from float64 division, which is exact here and faster than that of integers: a
    quotient of 32-bit by 16-bit numbers is an integer or at least 2^-16 away from one.
    """
    lanes = len(states)
    chunks: list[Array] = []
    takers: list[Array] = []
    widths, starts = tables.frequencies.reshape(-1), tables.starts
    if not widths.take(index).all():
        raise _no_frequency()
    gap = np.uint32(1 << tables.bits) - widths
    top, word = np.uint32(32 - tables.bits), np.uint32(16)
    at_row, value_row = np.empty(lanes, np.intp), np.empty(lanes, np.uint32)
    width_row, real_row = np.empty(lanes, np.uint32), np.empty(lanes, np.float64)
    full_row, divisor_row = np.empty(lanes, np.bool_), np.empty(lanes, np.float64)
    for begin in range((len(index) - 1) // lanes * lanes, -1, -lanes):
        count = min(lanes, len(index) - begin)
        x, at, value = states[:count], at_row[:count], value_row[:count]
        width, real = width_row[:count], real_row[:count]
        full, divisor = full_row[:count], divisor_row[:count]
        at[:] = index[begin : begin + count]
        widths.take(at, out=width, mode="clip")
        np.right_shift(x, top, out=value)
        np.greater_equal(value, width, out=full)
        spilling = full.nonzero()[0]
        spill = x.take(spilling)
        chunks.append(spill.astype("<u2"))
        takers.append(spilling.astype(np.uint16))
        x[spilling] = spill >> word
        divisor[:] = width
        real[:] = x
        np.divide(real, divisor, out=real)
        value[:] = real
        gap.take(at, out=width, mode="clip")
        np.multiply(value, width, out=value)
        np.add(x, value, out=x)
        starts.take(at, out=value, mode="clip")
        np.add(x, value, out=x)
    return np.concatenate(chunks[::-1]), np.concatenate(takers[::-1])


def _no_frequency() -> OptionError:
    return OptionError("a symbol has no frequency", field="symbols")


def decode_rows(
    states: Array, source: Words, contexts: Array | None, tables: Tables, symbols: Array
) -> None:
    """Run all lanes; fill symbols, leave the final states."""
    lanes = len(states)
    mask, shift, word = np.uint32((1 << tables.bits) - 1), np.uint32(tables.bits), np.uint32(16)
    low, half = np.uint32(LOW), np.uint32(0xFFFF)
    slot_row, base_row = np.empty(lanes, np.intp), np.empty(lanes, np.intp)
    entry_row, width_row = np.empty(lanes, np.uint32), np.empty(lanes, np.uint32)
    below_row = np.zeros(group_count(lanes) * GROUP_LANES, np.bool_)
    for begin in range(0, len(symbols), lanes):
        out = symbols[begin : begin + lanes]
        count = len(out)
        x, slot, entry = states[:count], slot_row[:count], entry_row[:count]
        width, below = width_row[:count], below_row[:count]
        np.bitwise_and(x, mask, out=width)
        slot[:] = width
        if contexts is not None:
            base = base_row[:count]
            base[:] = contexts[begin : begin + lanes]
            np.left_shift(base, tables.bits, out=base)
            np.bitwise_or(slot, base, out=slot)
        tables.slots.take(slot, out=entry, mode="clip")
        tables.symbols.take(slot, out=out, mode="clip")
        np.right_shift(x, shift, out=x)
        np.bitwise_and(entry, half, out=width)
        np.multiply(x, width, out=x)
        np.right_shift(entry, word, out=entry)
        np.add(x, entry, out=x)
        np.less(x, low, out=below)
        below_row[count:lanes] = False
        empty = below.nonzero()[0]
        if len(empty):
            x[empty] = x.take(empty) << word | source.take(below_row, len(empty))


def _symbol_index(symbols: Array, contexts: Array | None, tables: Tables) -> Array:
    """Find every symbol in the flat tables: unsigned [n]."""
    alphabet = tables.frequencies.shape[1]
    if len(symbols) and int(symbols.max()) >= alphabet:
        raise OptionError("a symbol is out of its range", field="symbols")
    if contexts is None:
        return symbols
    if len(contexts) != len(symbols):
        raise OptionError("there is not one context per symbol", field="contexts")
    if len(contexts) and int(contexts.max()) >= tables.contexts:
        raise OptionError("a context is out of its range", field="contexts")
    return np.asarray(contexts.astype(np.uint32) * np.uint32(alphabet) + symbols)


def _all_certain(symbols: Array, contexts: Array | None, tables: Tables) -> bool:
    rows = np.zeros(len(symbols), np.uint8) if contexts is None else contexts
    likely = tables.frequencies.argmax(axis=1).take(rows)
    return bool(tables.certain.take(rows).all() and (likely == symbols).all())


def _check_frequencies(frequencies: Array, bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise TernDamagedError(
            "unknown precision", field="model", expected=f"1 to {MAX_BITS}", actual=str(bits)
        )
    if frequencies.ndim != 2 or not 0 < frequencies.shape[1] <= MAX_SYMBOLS:
        raise TernDamagedError("a table has no such alphabet", field="model")
    if not 0 < len(frequencies) << bits <= MAX_SLOTS:
        raise TernDamagedError("there are too many contexts", field="model")
    if (frequencies.sum(axis=1, dtype=np.uint64) != 1 << bits).any():
        raise TernDamagedError("frequencies have another sum than they should", field="model")
    if bits == MAX_BITS and int(frequencies.max()) == 1 << bits:
        # 2^16 does not fit beside the place of a slot; fewer bits say the same.
        raise TernDamagedError("a certain symbol needs fewer bits", field="model")
