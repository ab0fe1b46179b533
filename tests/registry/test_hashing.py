"""Check that hashing in a thread gives what hashing in line gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import Digest
from registry.storage.hashing import ParallelHasher


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.lists(st.binary(max_size=30), max_size=4), max_size=20),
    last=st.lists(st.binary(max_size=30), max_size=3),
)
def test_order_is_kept(batches: list[list[bytes]], last: list[bytes]) -> None:
    hasher = ParallelHasher()
    for batch in batches:
        hasher.update(batch)
    hasher.update_now(last)
    whole = b"".join(b"".join(batch) for batch in [*batches, last])
    assert hasher.digest() == Digest.of(whole)
    hasher.close()


def test_a_small_whole_needs_no_thread() -> None:
    before = threading.active_count()
    hasher = ParallelHasher()
    hasher.update_now([b"small"])
    assert threading.active_count() == before
    assert hasher.digest() == Digest.of(b"small")
    hasher.close()


def test_a_failing_batch_is_heard_of() -> None:
    def failing() -> Iterator[bytes]:
        yield b"good"
        raise OSError("cannot read")

    hasher = ParallelHasher()
    hasher.update(failing())
    with pytest.raises(OSError, match="cannot read"):
        hasher.digest()
    hasher.close()


def test_a_slow_hash_holds_the_writer_back() -> None:
    gate, entered = threading.Event(), threading.Event()
    begun: list[int] = []

    def slow(number: int) -> Iterator[bytes]:
        begun.append(number)
        gate.wait(timeout=30)
        yield b"x"

    def feed(hasher: ParallelHasher) -> None:
        for number in range(8):
            hasher.update(slow(number))
        entered.set()

    hasher = ParallelHasher()
    feeder = threading.Thread(target=feed, args=(hasher,))
    feeder.start()
    assert not entered.wait(timeout=0.2), "more batches waited than memory is meant for"
    gate.set()
    feeder.join(timeout=30)
    assert hasher.digest() == Digest.of(b"x" * 8)
    hasher.close()
    assert begun == list(range(8))


def test_closing_leaves_no_thread() -> None:
    before = threading.active_count()
    hasher = ParallelHasher()
    hasher.update([b"x"])
    hasher.close()
    hasher.close()
    assert threading.active_count() == before
