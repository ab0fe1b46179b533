"""Check that bytes pass between network and threads whole, in order and a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from starlette.requests import Request
from starlette.types import Message

from api.errors import BodyCutError, TooLargeError
from api.hub import streams
from api.hub.streams import in_thread, pour, read_ahead, received

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def request_of(*messages: Message, then_wait: bool = False) -> Request:
    """Return a request whose body arrives as these messages."""
    queue = list(messages)

    async def receive() -> Message:
        if not queue and then_wait:
            await asyncio.sleep(60)
        return queue.pop(0)

    return Request({"type": "http", "headers": []}, receive)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Sink:
    """Collect what is written."""

    def __init__(self, *, fail_after: int | None = None) -> None:
        self.data = b""
        self._fail_after = fail_after

    def write(self, data: bytes) -> None:
        if self._fail_after is not None and len(self.data) >= self._fail_after:
            message = "disk full"
            raise OSError(message)
        self.data += data


async def collect(request: Request, *, limit: int = 1 << 20, idle_s: float = 5) -> list[bytes]:
    batches = received(request, limit_bytes=limit, idle_s=idle_s)
    return [b"".join(batch) async for batch in batches]


def test_small_messages_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_BYTES", 4)
    messages = [part(b"ab"), part(b"cd"), part(b"e"), part(b"fghij"), part(b"k", more=False)]
    assert run(collect(request_of(*messages))) == [b"abcd", b"efghij", b"k"]


def test_an_empty_body_has_no_batches() -> None:
    assert run(collect(request_of(part(b"", more=False)))) == []


def test_a_body_beyond_the_limit_is_refused() -> None:
    with pytest.raises(TooLargeError) as caught:
        run(collect(request_of(part(b"abc"), part(b"d", more=False)), limit=3))
    assert caught.value.limit_bytes == 3


def test_a_body_at_the_limit_is_not() -> None:
    assert run(collect(request_of(part(b"abc", more=False)), limit=3)) == [b"abc"]


def test_what_came_before_the_client_left_is_kept() -> None:
    sink, counted = Sink(), list[int]()
    request = request_of(part(b"abc"), {"type": "http.disconnect"})
    with pytest.raises(BodyCutError, match="left"):
        run(pour(received(request, limit_bytes=100, idle_s=5), sink, counted.append))
    assert (sink.data, sum(counted)) == (b"abc", 3)


def test_what_came_before_the_silence_is_kept() -> None:
    sink, counted = Sink(), list[int]()
    request = request_of(part(b"abc"), then_wait=True)
    with pytest.raises(BodyCutError, match="nothing came"):
        run(pour(received(request, limit_bytes=100, idle_s=0.05), sink, counted.append))
    assert (sink.data, sum(counted)) == (b"abc", 3)


def test_pouring_counts_and_keeps_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_BYTES", 3)
    data = bytes(range(256)) * 4
    messages = [part(data[i : i + 2]) for i in range(0, len(data), 2)]
    sink, counted = Sink(), list[int]()
    body = received(request_of(*messages, part(b"", more=False)), limit_bytes=2000, idle_s=5)
    run(pour(body, sink, counted.append))
    assert sum(counted) == len(data)
    assert sink.data == data


def test_a_failing_sink_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_BYTES", 1)
    taken: list[bytes] = []
    counted: list[int] = []

    async def body() -> AsyncIterator[Sequence[bytes]]:
        for number in range(100):
            taken.append(bytes([number]))
            yield [bytes([number])]

    with pytest.raises(OSError, match="disk full"):
        run(pour(body(), Sink(fail_after=2), counted.append))
    assert len(taken) <= 5
    assert sum(counted) <= 2


def chunks_of(data: Sequence[bytes], closed: list[str]) -> Iterator[bytes]:
    try:
        yield from data
    finally:
        closed.append("closed")


def test_reading_ahead_yields_everything_and_closes() -> None:
    async def work() -> tuple[list[bytes], list[str], list[int]]:
        closed: list[str] = []
        sent: list[int] = []
        data = [b"a" * n for n in (1, 2, 3)]
        got = [chunk async for chunk in read_ahead(chunks_of(data, closed), sent.append)]
        return got, closed, sent

    got, closed, sent = run(work())
    assert got == [b"a", b"aa", b"aaa"]
    assert closed == ["closed"]
    assert sent == [1, 2, 3]


def test_reading_ahead_stops_when_the_reader_does() -> None:
    async def work() -> tuple[int, list[str]]:
        closed: list[str] = []
        made = 0

        def endless() -> Iterator[bytes]:
            nonlocal made
            try:
                while True:
                    made += 1
                    yield b"x"
            finally:
                closed.append("closed")

        stream = read_ahead(endless(), lambda _: None)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is an async generator
        return made, closed

    made, closed = run(work())
    assert made <= 3
    assert closed == ["closed"]


def test_a_failure_while_reading_reaches_the_reader() -> None:
    def damaged() -> Iterator[bytes]:
        yield b"ok"
        message = "damaged"
        raise OSError(message)

    async def work() -> None:
        async for _ in read_ahead(damaged(), lambda _: None):
            pass

    with pytest.raises(OSError, match="damaged"):
        run(work())


def test_a_context_is_entered_and_left_in_threads() -> None:
    steps: list[str] = []

    @contextmanager
    def manager() -> Iterator[str]:
        steps.append("enter")
        try:
            yield "value"
        except KeyError:
            steps.append("saw the error")
            raise
        finally:
            steps.append("leave")

    async def well() -> str:
        async with in_thread(manager()) as value:
            return value

    async def badly() -> None:
        async with in_thread(manager()):
            raise KeyError

    assert run(well()) == "value"
    with pytest.raises(KeyError):
        run(badly())
    assert steps == ["enter", "leave", "enter", "saw the error", "leave"]


def test_what_leaving_raises_is_heard() -> None:
    @contextmanager
    def manager() -> Iterator[None]:
        yield
        message = "the digest is wrong"
        raise ValueError(message)

    async def work() -> None:
        async with in_thread(manager()):
            pass

    with pytest.raises(ValueError, match="digest"):
        run(work())
