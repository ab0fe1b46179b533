"""Hand the words of a stream out to the lanes that need them, in one of two layouts.

Shared: one stream for all lanes. Which word a lane takes depends on all lanes before it, so a GPU
must run a whole segment in step on one of its processors. Grouped: lanes 32g…32g+31 take their
words from stream g, in the same order as before, and a warp decodes alone. The words are the same,
only sorted by group, and how many each group has is all that is added: four bytes for 32 lanes,
0.02 % at 512 bytes to a lane.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from compress.dtypes import Array
from compress.errors import TernDamagedError

GROUP_LANES = 32
#: Fewer lanes keep no more of a GPU busy in groups than together.
GROUPED_FROM = 64


class Words(Protocol):
    """Give words to lanes, row after row."""

    def take(self, needs: Array, count: int) -> Array:
        """Give the next words, unsigned [count], to the lanes of a row that need one.

        Args:
            needs: bool [lanes, filled up with False to a multiple of 32].
            count: how many lanes need one.

        Raises:
            TernDamagedError: there are not so many.
        """
        ...

    @property
    def spent(self) -> bool:
        """Say whether every word was taken by the lanes that it is for."""
        ...


class SharedWords:
    """Hold one stream for all lanes: uint16 [n]."""

    def __init__(self, words: Array) -> None:
        self._words = words.astype(np.uint32)
        self._position = 0

    def take(self, needs: Array, count: int) -> Array:
        """Give the next words of the stream; see `Words`."""
        del needs
        taken = self._words[self._position : self._position + count]
        if len(taken) != count:
            raise TernDamagedError("a stream ran out of words", field="words")
        self._position += count
        return taken

    @property
    def spent(self) -> bool:
        """Say whether every word was taken."""
        return self._position == len(self._words)


class GroupedWords:
    """Hold a stream for every 32 lanes: uint16 [n] words, unsigned [groups] of each group."""

    def __init__(self, words: Array, group_words: Array) -> None:
        self._words = words.astype(np.uint32)
        self._ends = np.cumsum(group_words, dtype=np.int64)
        self._at = self._ends - group_words
        self._numbers = np.arange(GROUP_LANES * len(group_words))

    def take(self, needs: Array, count: int) -> Array:
        """Give the next words of every group; see `Words`."""
        if not len(self._words):
            raise TernDamagedError("a stream ran out of words", field="words")
        taken = np.bitwise_count(np.packbits(needs).view(np.uint32)).astype(np.int64)
        np.add(self._at, taken, out=self._at)
        place = (self._at - taken.cumsum()).repeat(taken)
        place += self._numbers[:count]
        # A group that runs over gets a neighbour's words; that its end is wrong is seen at the end.
        return np.asarray(self._words.take(place, mode="wrap"))

    @property
    def spent(self) -> bool:
        """Say whether every group took exactly its own words."""
        return bool((self._at == self._ends).all())


class Spans:
    """Say where the words of every group lie, for loops that take them one by one.

    Attributes:
        words: uint16 [n], and as many more as a group has lanes.
        at: int64 [groups], where the next word of every group is; a loop moves it on.
        lanes: how many lanes share words.
    """

    def __init__(self, words: Array, group_words: Array | None, *, lanes: int) -> None:
        counts = np.array([len(words)]) if group_words is None else group_words.astype(np.int64)
        self._ends = np.cumsum(counts)
        self.at = self._ends - counts
        self.lanes = lanes if group_words is None else GROUP_LANES
        self.words = np.zeros(len(words) + self.lanes, np.uint16)
        self.words[: len(words)] = words

    @property
    def spent(self) -> bool:
        """Say whether every group took exactly its own words."""
        return bool((self.at == self._ends).all())


def check(words: Array, group_words: Array | None, *, lanes: int) -> None:
    """Refuse groups that do not fit the words or the lanes.

    Raises:
        TernDamagedError: they do not.
    """
    if group_words is None:
        return
    if len(group_words) != group_count(lanes):
        raise TernDamagedError("there are not as many groups as lanes need", field="words")
    if int(group_words.sum(dtype=np.uint64)) != len(words):
        raise TernDamagedError("the words of the groups do not add up", field="words")


def source(words: Array, group_words: Array | None) -> Words:
    """Hand out words row by row, in the layout that they are in."""
    return SharedWords(words) if group_words is None else GroupedWords(words, group_words)


def group_count(lanes: int) -> int:
    """Count the groups of so many lanes."""
    return -(-lanes // GROUP_LANES)


def sort_words(words: Array, takers: Array, lanes: int) -> tuple[Array, Array]:
    """Sort shared words by group.

    Args:
        words: uint16 [n], in the order in which lanes take them.
        takers: uint16 [n], the lane that takes each.
        lanes: how many there are.

    Returns:
        uint16 [n] words, group after group, and int64 [groups], how many each has.
    """
    group = (takers // GROUP_LANES).astype(np.uint8 if lanes <= GROUP_LANES << 8 else np.uint16)
    counts = np.bincount(group, minlength=group_count(lanes))
    return words[np.argsort(group, kind="stable")], counts
