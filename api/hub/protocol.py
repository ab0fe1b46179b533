"""Bound what a connection may send before it has said what it wants.

Uvicorn's own HTTP protocol takes headers of any length and waits for them for ever; this one
answers 431 to too many, and closes connections that do not finish their headers in time.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.errors import HeaderSizeError
from api.hub.problem_responses import MEDIA_TYPE
from api.problems import TYPE_PREFIX, row_of, row_of_status
from api.settings import HubSettings


class HubProtocol(HttpToolsProtocol):
    """Speak HTTP/1.1 with bounded headers."""

    max_header_bytes = 64 << 10
    header_timeout_s = 20.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._refused: HeaderSizeError | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; one endless header, which the parser would gather, is refused too."""
        waiting = self._deadline is not None
        super().data_received(data)
        if waiting and self._deadline is not None and not self.transport.is_closing():
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self.max_header_bytes:
                self._refused = self._too_large()
                self.send_400_response(self._refused.message)

    def on_message_begin(self) -> None:
        """Count anew for each request."""
        super().on_message_begin()
        self._header_bytes = 0
        self._expect_headers()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting, and begin to serve."""
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed, as a problem, and close."""
        row = row_of(self._refused) if self._refused else row_of_status(400)
        detail = self._refused.message if self._refused else msg
        problem = {
            "type": TYPE_PREFIX + row.code,
            "title": row.title,
            "status": row.status,
            "detail": detail,
            "instance": "",
            "code": row.code,
        }
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {row.status} {row.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _count(self, size_bytes: int) -> None:
        self._header_bytes += size_bytes
        if self._header_bytes > self.max_header_bytes:
            self._refused = self._too_large()
            raise self._refused

    def _too_large(self) -> HeaderSizeError:
        return HeaderSizeError(
            f"request line and headers are longer than {self.max_header_bytes} bytes"
        )

    def _expect_headers(self) -> None:
        self._stop_waiting()
        self._unparsed_bytes = 0
        self._deadline = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def protocol_for(settings: HubSettings) -> type[HubProtocol]:
    """Return the protocol with the limits of a hub's settings."""
    limits = {
        "max_header_bytes": settings.max_header_bytes,
        "header_timeout_s": settings.header_timeout_s,
    }
    return type("ConfiguredHubProtocol", (HubProtocol,), limits)
