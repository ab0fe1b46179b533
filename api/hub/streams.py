"""Move bytes between the network and the registry's synchronous calls, a few MiB at a time.

Downloads read one chunk ahead; uploads are gathered into batches, and one batch is written by a
thread while the next arrives. Neither holds more than a few batches, whatever the file's size.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.types import Message

from api.errors import BodyCutError, TooLargeError

BATCH_BYTES = 1 << 20
T = TypeVar("T")


class ByteSink(Protocol):
    """Take bytes in order."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""


@asynccontextmanager
async def in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a synchronous context in worker threads; leaving is never cut short."""
    stack = ExitStack()
    try:
        yield await to_thread.run_sync(stack.enter_context, manager)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(stack.__exit__, *sys.exc_info())


async def read_ahead(chunks: Iterator[bytes], sent: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Yield chunks, reading the next in a thread while the last is being sent.

    Args:
        chunks: a synchronous iterator; closed at the end if it can be.
        sent: told the length of each chunk once it was taken.
    """

    def step() -> bytes | None:
        return next(chunks, None)

    upcoming = asyncio.ensure_future(to_thread.run_sync(step))
    try:
        while (chunk := await asyncio.shield(upcoming)) is not None:
            upcoming = asyncio.ensure_future(to_thread.run_sync(step))
            yield chunk
            sent(len(chunk))
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.wait({upcoming})
            close = getattr(chunks, "close", None)
            if close is not None:
                await to_thread.run_sync(close)


async def received(
    request: Request, *, limit_bytes: int, idle_s: float
) -> AsyncIterator[Sequence[bytes]]:
    """Yield the body of a request in batches of about 1 MiB, each the pieces that came.

    What arrived before the body broke off is yielded too, so that it can be kept.

    Raises:
        TooLargeError: the body is longer than `limit_bytes`.
        BodyCutError: the client left, or sent nothing for `idle_s`.
    """
    held: list[bytes] = []
    held_bytes = total = 0
    more, cut = True, ""
    while more and not cut:
        message, cut = await _next_message(request, idle_s)
        body: bytes = message.get("body", b"")
        more = bool(message.get("more_body", False))
        total += len(body)
        if total > limit_bytes:
            raise TooLargeError(
                f"the body is longer than the {limit_bytes} bytes that were announced",
                limit_bytes=limit_bytes,
            )
        held.append(body)
        held_bytes += len(body)
        if held_bytes >= BATCH_BYTES or ((cut or not more) and held_bytes):
            yield held
            held, held_bytes = [], 0
    if cut:
        raise BodyCutError(cut, field="body", hint="ask for the offset and send the rest")


async def _next_message(request: Request, idle_s: float) -> tuple[Message, str]:
    try:
        async with asyncio.timeout(idle_s):
            message = await request.receive()
    except TimeoutError:
        return {}, f"nothing came for {idle_s:g} s"
    if message["type"] == "http.disconnect":
        return {}, "the client left before the end of the body"
    return message, ""


async def pour(
    body: AsyncIterator[Sequence[bytes]], sink: ByteSink, written: Callable[[int], None]
) -> None:
    """Write every batch to a sink in a thread, while the next one arrives.

    What arrived is written even if the body breaks off.

    Args:
        body: batches of pieces.
        sink: takes every piece, in order.
        written: told the length of each batch once it was written.
    """
    writing: asyncio.Future[int] | None = None
    try:
        async for batch in body:
            if writing is not None:
                written(await asyncio.shield(writing))
            writing = asyncio.ensure_future(to_thread.run_sync(_write_all, sink, batch))
    finally:
        if writing is not None:
            with anyio.CancelScope(shield=True):
                written(await writing)


def _write_all(sink: ByteSink, batch: Sequence[bytes]) -> int:
    for piece in batch:
        sink.write(piece)
    return sum(map(len, batch))
