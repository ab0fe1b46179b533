# ruff: noqa: SIM117 - the server outlives the client, and the client the refusal
"""Check what a client does when a hub is slow, busy, gone, or no hub at all: over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from api.client import HubClient, adapter_path, open_client
from api.remote.credentials import Access
from api.remote.errors import EndpointError, HubError, HubUnreachableError, NotAHubError
from api.remote.transport import RetryPolicy, retry_after_s
from registry.refs import AdapterName

WHO = {"label": "me", "grants": {}, "open": True}


@dataclass(slots=True)
class Reply:
    """Be one answer of the scripted server.

    Attributes:
        status: HTTP status; 0 hangs up without an answer.
        body: what is sent.
        headers: beside the length.
    """

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Scripted:
    """Be a server that answers from a list, and then the last entry for ever."""

    replies: list[Reply]
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    url: str = ""

    def client(self, **retry: float) -> HubClient:
        policy = RetryPolicy(sleep=self.pauses.append, **retry)  # type: ignore[arg-type]  # numbers
        return HubClient(Access(self.url, "tern_secret"), retry=policy, timeout_s=5)


@contextmanager
def scripted(*replies: Reply) -> Iterator[Scripted]:
    script = Scripted(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.seen.append((self.path, dict(self.headers)))
            reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            if reply.status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status: int, **members: object) -> Reply:
    body = {"status": status, "detail": "no", "code": "some-code", **members}
    return Reply(status, body, {"Content-Type": "application/problem+json"})


def test_the_token_travels_in_the_header_alone() -> None:
    with scripted(Reply(200, WHO)) as server, server.client() as client:
        assert client.whoami().label == "me"
    path, headers = server.seen[0]
    assert headers["Authorization"] == "Bearer tern_secret"
    assert "secret" not in path


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_hub_is_asked_again(status: int) -> None:
    with scripted(problem(status), problem(status), Reply(200, WHO)) as server:
        with server.client() as client:
            client.whoami()
    assert len(server.seen) == 3
    assert len(server.pauses) == 2
    assert server.pauses[1] > 0


def test_retry_after_is_obeyed_but_not_for_ever() -> None:
    replies = [
        Reply(429, {"detail": "x"}, {**problem(429).headers, "Retry-After": "7"}),
        problem(503, retry_after_s=9999),
        Reply(200, WHO),
    ]
    with scripted(*replies) as server, server.client() as client:
        client.whoami()
    assert server.pauses == [7.0, 30.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_refusal_is_told_at_once(status: int) -> None:
    told = problem(status, hint="do this", expected="a", actual="b", file="f")
    with scripted(told) as server, server.client() as client:
        with pytest.raises(HubError, match="no") as caught:
            client.whoami()
    assert len(server.seen) == 1
    error = caught.value
    assert (error.status, error.code, error.hint) == (status, "some-code", "do this")
    assert error.extra == {"expected": "a", "actual": "b", "file": "f"}


def test_a_hub_that_stays_busy_is_given_up() -> None:
    with scripted(problem(503)) as server, server.client(attempts=3) as client:
        with pytest.raises(HubError):
            client.whoami()
    assert len(server.seen) == 3


def test_a_lost_connection_is_made_again() -> None:
    with scripted(Reply(200, WHO), Reply(0), Reply(0), Reply(200, WHO)) as server:
        with server.client() as client:
            client.whoami()
            client.whoami()
    assert len(server.seen) == 4


def test_a_hub_that_never_answered_is_told_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pauses: list[float] = []
    access = Access(f"http://127.0.0.1:{port}")
    with HubClient(access, retry=RetryPolicy(sleep=pauses.append)) as client:
        with pytest.raises(HubUnreachableError, match=f"127.0.0.1:{port}") as caught:
            client.whoami()
    assert len(pauses) == 2
    assert "adapters serve" in caught.value.hint


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>hello</html>"),
        Reply(200, {"something": "else"}),
        Reply(404, b"<html>not here</html>", {"Content-Type": "text/html"}),
        Reply(500, b"", {}),
        Reply(302, b"", {"Location": "http://elsewhere/login"}),
        Reply(400, [1], {"Content-Type": "application/problem+json"}),
    ],
)
def test_what_is_no_hub_is_called_so(reply: Reply) -> None:
    with scripted(reply) as server, server.client() as client:
        with pytest.raises(NotAHubError, match="does not answer as a hub"):
            client.whoami()


def test_a_proxy_that_answers_for_a_restarting_hub_is_waited_for() -> None:
    with scripted(Reply(502, b"bad gateway"), Reply(200, WHO)) as server:
        with server.client() as client:
            assert client.whoami().label == "me"


def test_waits_grow_and_stay_bounded() -> None:
    policy = RetryPolicy(first_wait_s=1.0, longest_wait_s=10.0)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)):
        assert most / 2 <= policy.wait_s(attempt, None) <= most
    assert policy.wait_s(1, 3.0) == 3.0
    assert policy.wait_s(1, 1e9) == 10.0


@pytest.mark.parametrize(("asked", "wait"), [("5", 5.0), (2, 2.0), ("-3", 0.0), ("soon", None)])
def test_retry_after_is_read(asked: object, wait: float | None) -> None:
    error = HubError("x", status=429, code="", extra={"retry_after_s": asked})
    assert retry_after_s(error) == wait


def test_names_are_escaped_as_a_whole() -> None:
    name = AdapterName("team", "sql")
    assert adapter_path(name, "tags", "a/b") == "/adapters/team/sql/tags/a%2Fb"
    assert adapter_path(name, "x", "../../y?z") == "/adapters/team/sql/x/..%2F..%2Fy%3Fz"


def test_a_client_is_opened_by_a_url_alone() -> None:
    with open_client("http://127.0.0.1:9/") as client:
        assert client.endpoint == "http://127.0.0.1:9"
    with pytest.raises(EndpointError):
        open_client("not a url")
