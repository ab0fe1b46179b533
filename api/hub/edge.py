"""Stand between the network and the routes: identify, refuse, time and log each request.

The path that routes see is the raw one, so that `%2F` inside a branch's name is no separator;
`api.hub.route_kinds` decodes the parameters afterwards. An open hub (no tokens) answers only to
programs of its own machine: not to other hosts, not to other names for this host (DNS rebinding),
and it lets no web page change anything.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ForeignCallError
from api.hub.logs import ACCESS, choose_request_id, request_id
from api.hub.metrics import Metrics
from api.hub.problem_responses import error_response
from api.settings import HubSettings, is_loopback

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def check_local(scope: Scope, headers: Headers, *, allowed_hosts: tuple[str, ...] = ()) -> None:
    """Let pass only what a program on this machine sent.

    Raises:
        ForeignCallError: it came from elsewhere, names another host, or a web page wants to write.
    """
    client = scope.get("client")
    if client and not is_loopback(client[0]) and client[0] != "testclient":
        raise ForeignCallError(
            "this hub is open to its own machine only",
            hint="start it with ADAPTERS_AUTH=token to serve others",
        )
    host = headers.get("host", "")
    if not _host_allowed(host, allowed_hosts):
        raise ForeignCallError(
            f"this hub does not go by the name {host[:100]!r}",
            hint="use localhost or 127.0.0.1, or add the name to ADAPTERS_ALLOWED_HOSTS",
        )
    if scope["method"] not in _SAFE and _from_web_page(headers, host):
        raise ForeignCallError(
            "a web page may not change anything here", hint="use a client that sends no Origin"
        )


def _host_allowed(host: str, allowed_hosts: tuple[str, ...]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name in allowed_hosts


def _from_web_page(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] != host
    return headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}


class Edge:
    """Wrap an app: see the module."""

    def __init__(self, app: ASGIApp, *, settings: HubSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id.set(choose_request_id(headers.get("x-request-id", "")))
        scope["path"] = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        exchange = _Exchange(send)
        try:
            await self._serve(scope, receive, exchange, headers)
        finally:
            self._record(scope, exchange)

    async def _serve(
        self, scope: Scope, receive: Receive, exchange: _Exchange, headers: Headers
    ) -> None:
        if not self._settings.needs_token:
            try:
                check_local(scope, headers, allowed_hosts=self._settings.allowed_hosts)
            except ForeignCallError as error:
                await error_response(error, scope["path"])(scope, receive, exchange.send)
                return
        await self._app(scope, receive, exchange.send)

    def _record(self, scope: Scope, exchange: _Exchange) -> None:
        route = getattr(scope.get("route"), "path_format", "(none)")
        method = scope["method"] if route != "(none)" else "(none)"
        seconds = time.perf_counter() - exchange.began
        self._metrics.requests.labels(method, route, str(exchange.status)).inc()
        self._metrics.latency_s.labels(method, route).observe(seconds)
        client = scope.get("client")
        fields = {
            "method": scope["method"],
            "path": scope["path"][:500],
            "status": exchange.status,
            "seconds": round(seconds, 6),
            "sent_bytes": exchange.sent_bytes,
            "client": client[0] if client else "",
            "principal": scope.get("state", {}).get("principal", ""),
        }
        ACCESS.info("request", extra={"fields": fields})


class _Exchange:
    """Watch what is answered, and add the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.began = time.perf_counter()
        self.status = 500
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = request_id.get()
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        else:
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)
