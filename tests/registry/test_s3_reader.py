"""Check the seekable reader against an ordinary file, and count what it asks for."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.storage.s3_reader import open_ranged
from tests.contracts.blob_store import sample

MIB = 1 << 20


class Server:
    """Serve ranges of some bytes, in short reads, and remember what was asked for."""

    def __init__(self, data: bytes, *, short: int = 1 << 30) -> None:
        self.data = data
        self.short = short
        self.asked: list[tuple[int, int]] = []
        self.open_replies = 0

    def fetch(self, begin: int, end: int) -> Reply:
        """Answer one request."""
        self.asked.append((begin, end))
        self.open_replies += 1
        return Reply(self, self.data[begin:end])


class Reply:
    """Be one reply."""

    def __init__(self, server: Server, data: bytes) -> None:
        self.server = server
        self.stream = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        """Return at most as much as the server sends at once."""
        return self.stream.read(min(size, self.server.short))

    def close(self) -> None:
        """Count the end."""
        self.server.open_replies -= 1


ACTIONS = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 700_000)),
    st.tuples(st.just("seek"), st.integers(0, 2_100_000)),
    st.tuples(st.just("back"), st.integers(0, 300_000)),
)


@settings(max_examples=40, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=12), short=st.sampled_from([1 << 30, 10_007]))
def test_it_reads_as_a_file_does(actions: list[tuple[str, int]], short: int) -> None:
    data = sample(2 * MIB + 13)
    server = Server(data, short=short)
    with open_ranged(server.fetch, len(data)) as remote:
        local = io.BytesIO(data)
        for name, value in actions:
            if name == "read":
                assert remote.read(value) == local.read(value)
            elif name == "seek":
                assert remote.seek(value) == local.seek(value)
            else:
                offset = -min(value, local.tell())
                assert remote.seek(offset, os.SEEK_CUR) == local.seek(offset, os.SEEK_CUR)
            assert remote.tell() == local.tell()
    assert server.open_replies == 0
    assert all(0 <= begin < end <= len(data) for begin, end in server.asked)


def test_a_header_costs_one_small_request() -> None:
    server = Server(bytes(200 * MIB))
    with open_ranged(server.fetch, len(server.data)) as file:
        file.read(8)
        file.read(20_000)
    assert server.asked == [(0, MIB)]


def test_a_scan_asks_for_more_and_more() -> None:
    server = Server(bytes(200 * MIB))
    with open_ranged(server.fetch, len(server.data)) as file:
        while file.read(MIB):
            pass
    lengths = [(end - begin) // MIB for begin, end in server.asked]
    assert lengths == [1, 4, 16, 64, 64, 51]
    assert [begin for begin, _ in server.asked[1:]] == [end for _, end in server.asked[:-1]]


def test_a_seek_begins_small_again() -> None:
    server = Server(bytes(50 * MIB))
    with open_ranged(server.fetch, len(server.data)) as file:
        file.read(3 * MIB)
        file.seek(40 * MIB)
        file.read(10)
    assert server.asked[-1] == (40 * MIB, 41 * MIB)


def test_nothing_is_asked_beyond_the_end() -> None:
    server = Server(b"abc")
    with open_ranged(server.fetch, 3) as file:
        assert file.seek(10) == 10
        assert file.read() == b""
    assert not server.asked


def test_a_seek_before_the_beginning_is_refused() -> None:
    with open_ranged(Server(b"abc").fetch, 3) as file, pytest.raises(OSError, match="before"):
        file.seek(-4, os.SEEK_END)
