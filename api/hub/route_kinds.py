"""Route as the hub does: paths are decoded after they were matched, and JSON bodies are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

from anyio import to_thread
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Message, Receive, Scope

from api.hub.deps import identify

_VALUES = 80_000  # a message may consist of commas
_VALUES_PER_FILE = 4


class RawPathRoute(APIRoute):
    """Match the raw path, then decode what the parameters caught: `feature%2Fx` is one name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route fits, and the scope of its handler."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["path_params"] = {
                name: unquote(text) for name, text in child["path_params"].items()
            }
        return match, child


class JsonRoute(RawPathRoute):
    """Take no body that is larger than the hub allows, and wait for none for ever."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with a bounded body."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            hub = request.app.state.hub
            settings = hub.settings
            if settings.needs_token:  # nobody fills our memory before we know who it is
                await to_thread.run_sync(identify, request, hub)
            announced = request.headers.get("content-length", "0")
            if not announced.isdecimal() or int(announced) > settings.max_json_bytes:
                raise HTTPException(413)
            receive = _bounded(
                request.receive,
                limit=settings.max_json_bytes,
                values=_VALUES + _VALUES_PER_FILE * settings.max_files_per_revision,
                idle_s=settings.upload_idle_s,
            )
            return await handler(Request(request.scope, receive))

        return bounded


def _bounded(receive: Receive, *, limit: int, values: int, idle_s: float) -> Receive:
    """Wrap the source of a body; only an `HTTPException` passes FastAPI's reader unchanged.

    Values are counted by their commas before they are parsed: a million empty objects are a small
    body and a large memory.
    """
    total = commas = 0

    async def bounded() -> Message:
        nonlocal total, commas
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(400) from error
        body = message.get("body", b"")
        total += len(body)
        commas += body.count(b",")
        if total > limit or commas > values:
            raise HTTPException(413)
        return message

    return bounded
