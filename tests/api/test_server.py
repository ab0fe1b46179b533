"""Start, stop and abuse a real server: its address, its signals, its patience with headers."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.hub_pushes import push, small_adapter
from tests.live_hub import HubDiedError, LiveHub, start_hub, wait_until


def connect(hub: LiveHub) -> socket.socket:
    parts = urlsplit(hub.url)
    return socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    read = b""
    while piece := connection.recv(65_536):
        read += piece
    return read


def test_a_free_port_is_taken_and_told(hub: LiveHub) -> None:
    assert urlsplit(hub.url).port not in {0, None, 8321}
    assert httpx2.get(f"{hub.url}/ready").json() == {"status": "ready"}


def test_the_log_is_json(hub: LiveHub, http: httpx2.Client) -> None:
    http.get("/whoami", headers={"X-Request-ID": "find-me"})

    def lines() -> list[dict[str, object]]:
        return [line for line in hub.log() if line.get("request_id") == "find-me"]

    wait_until(lines)
    assert [line["path"] for line in lines()] == ["/api/v1/whoami"]


def test_what_was_pushed_is_there_after_a_restart(tmp_path: Path) -> None:
    with start_hub(tmp_path) as hub, hub.client() as http:
        revision = push(http, "team/x", small_adapter())
        assert hub.stop() == -signal.SIGTERM
    with start_hub(tmp_path) as hub, hub.client() as http:
        assert http.get("/adapters/team/x/revisions/main").json() == revision
        push(http, "team/x", small_adapter(1))
        hub.kill()
    with start_hub(tmp_path) as hub, hub.client() as http:
        assert http.get("/adapters/team/x").json()["revisions"] == 2


def test_a_request_in_flight_is_finished_before_the_hub_stops(tmp_path: Path) -> None:
    with start_hub(tmp_path, keep_alive_s=1) as hub, connect(hub) as connection:
        body = json.dumps({"blobs": []}).encode()
        head = (
            "POST /api/v1/adapters/t/x/blobs/missing HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:3])
        time.sleep(0.5)
        hub.process.terminate()
        time.sleep(0.5)
        connection.sendall(body[3:])
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        hub.process.wait(20)


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "auth": "none"},
        {"auth": "token"},
        {"admin_token": "short"},
        {"store": "gopher://x"},
    ],
)
def test_a_hub_that_is_set_up_wrongly_ends_at_once(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(HubDiedError) as caught, start_hub(tmp_path, **settings):
        pass
    assert "Error" in str(caught.value)


def test_a_hub_with_a_bootstrap_token_serves_everybody(tmp_path: Path) -> None:
    secret = "a-bootstrap-secret-1"
    with start_hub(tmp_path, host="0.0.0.0", admin_token=secret) as hub:
        url = hub.url.replace("0.0.0.0", "127.0.0.1") + "/api/v1/adapters"
        assert httpx2.get(url).status_code == 401
        headers = {"Authorization": f"Bearer {secret}", "Host": "any.example"}
        assert httpx2.get(url, headers=headers).status_code == 200
    assert secret not in hub.log_path.read_text()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Pad: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(9000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 600_000,
    ],
    ids=["one", "many", "path", "endless"],
)
def test_headers_beyond_the_limit_are_refused(hub: LiveHub, head: bytes) -> None:
    with connect(hub) as connection:
        try:
            connection.sendall(head)
            answer = read_all(connection)
        except (BrokenPipeError, ConnectionResetError):
            return  # the hub hung up while we were still talking
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"headers-too-large" in answer


@pytest.mark.parametrize(
    "head", [b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00"]
)
def test_what_is_no_http_is_refused_as_a_problem(hub: LiveHub, head: bytes) -> None:
    with connect(hub) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


def test_headers_that_never_end_are_not_waited_for(tmp_path: Path) -> None:
    with start_hub(tmp_path, header_timeout_s=0.4) as hub:
        for start in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
            with connect(hub) as connection:
                connection.sendall(start)
                began = time.monotonic()
                assert read_all(connection) == b""
                assert time.monotonic() - began < 10
        with hub.client() as http:
            assert http.get("/whoami").status_code == 200
            time.sleep(0.8)
            assert http.get("/whoami").status_code == 200, "an idle connection is no slow one"


def test_a_json_body_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    with start_hub(tmp_path, upload_idle_s=0.3) as hub, connect(hub) as connection:
        connection.sendall(
            b"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
            b"Content-Type: application/json\r\nConnection: close\r\n\r\n{"
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"unreadable-body" in answer


def test_what_a_proxy_forwards_from_outside_is_not_local(hub: LiveHub) -> None:
    with hub.client() as http:
        forwarded = http.get("/whoami", headers={"X-Forwarded-For": "203.0.113.9"})
        assert forwarded.json()["code"] == "foreign-call"
        assert http.get("/whoami", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


def test_pipelined_requests_are_answered_in_order(hub: LiveHub) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a%d\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connect(hub) as connection:
        connection.sendall(one % 1 + one % 2 + last % 3)
        answer = read_all(connection)
    assert [answer.index(b"x-request-id: a%d" % n) for n in (1, 2, 3)] == sorted(
        answer.index(b"x-request-id: a%d" % n) for n in (1, 2, 3)
    )
