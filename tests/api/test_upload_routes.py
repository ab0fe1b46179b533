"""Send blobs whole, in parts, broken off and wrongly: what arrived stays, if it is right."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from registry.digest import Digest
from tests.hub_pushes import problem
from tests.live_hub import LiveHub, start_hub, wait_until

MIB = 1 << 20


def url_of(data: bytes, adapter: str = "team/up") -> str:
    return f"/adapters/{adapter}/blobs/{Digest.of(data)}"


def send_part(http: httpx2.Client, data: bytes, begin: int, end: int) -> httpx2.Response:
    headers = {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
    return http.put(url_of(data), content=data[begin:end], headers=headers)


def staged(http: httpx2.Client, data: bytes, adapter: str = "team/up") -> int | None:
    """Return the offset that the hub reports, or None if it has the whole."""
    asked = {"blobs": [{"digest": str(Digest.of(data)), "size_bytes": len(data)}]}
    missing = http.post(f"/adapters/{adapter}/blobs/missing", json=asked).json()["missing"]
    return int(missing[0]["offset"]) if missing else None


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 5 * MIB + 3])
def test_a_whole_blob_is_stored(http: httpx2.Client, size: int) -> None:
    data = os.urandom(size)
    response = http.put(url_of(data), content=data)
    assert response.status_code == 201, response.text
    assert response.json() == {"digest": str(Digest.of(data)), "offset": size, "stored": True}
    assert response.headers["upload-offset"] == str(size)
    assert staged(http, data) is None
    assert http.put(url_of(data), content=data).status_code == 201, "once more is fine"


def test_parts_are_put_together(http: httpx2.Client) -> None:
    data = os.urandom(3 * MIB)
    cuts = [0, 1, MIB, 2 * MIB + 7, len(data)]
    for begin, end in pairwise(cuts):
        response = send_part(http, data, begin, end)
        last = end == len(data)
        assert response.status_code == (201 if last else 202), response.text
        assert response.json()["stored"] is last
        assert response.headers["upload-offset"] == str(end)
        assert staged(http, data) == (None if last else end)


@pytest.mark.parametrize("begin", [0, 5, 15])
def test_a_part_that_does_not_continue_is_told_where_to(http: httpx2.Client, begin: int) -> None:
    data = os.urandom(20)
    send_part(http, data, 0, 10)
    response = send_part(http, data, begin, 20)
    body = problem(response, 409, "offset-mismatch")
    assert body["offset"] == 10
    assert response.headers["upload-offset"] == "10"


def test_wrong_bytes_are_thrown_away(http: httpx2.Client) -> None:
    data = os.urandom(1000)
    response = http.put(url_of(data), content=bytes(1000))
    body = problem(response, 422, "digest-mismatch")
    assert body["expected"] == str(Digest.of(data))
    assert body["actual"] == str(Digest.of(bytes(1000)))
    assert staged(http, data) == 0
    assert http.put(url_of(data), content=data).status_code == 201


@pytest.mark.parametrize(
    "header", ["bytes 0-9", "bytes 0-99/10", "bytes 9-0/10", "octets 0-9/10", "bytes 0-9/*"]
)
def test_a_lying_content_range_is_refused(http: httpx2.Client, header: str) -> None:
    data = os.urandom(10)
    response = http.put(url_of(data), content=data, headers={"Content-Range": header})
    problem(response, 400, "bad-content-range")


def test_content_range_and_length_must_agree(http: httpx2.Client) -> None:
    data = os.urandom(10)
    response = http.put(url_of(data), content=data, headers={"Content-Range": "bytes 0-8/10"})
    problem(response, 400, "bad-content-range")


def test_an_upload_without_a_length_is_refused(http: httpx2.Client) -> None:
    data = os.urandom(10)

    def chunks() -> Iterator[bytes]:
        yield data

    problem(http.put(url_of(data), content=chunks()), 411, "length-missing")


def test_a_chunked_part_with_a_range_is_accepted(http: httpx2.Client) -> None:
    data = os.urandom(10)

    def chunks() -> Iterator[bytes]:
        yield data[:5]
        yield data[5:]

    headers = {"Content-Range": "bytes 0-9/10"}
    assert http.put(url_of(data), content=chunks(), headers=headers).status_code == 201


def test_a_chunked_part_longer_than_announced_is_refused(http: httpx2.Client) -> None:
    data = os.urandom(10)
    headers = {"Content-Range": "bytes 0-4/10"}

    def chunks() -> Iterator[bytes]:
        yield data

    problem(http.put(url_of(data), content=chunks(), headers=headers), 413, "too-large")


def raw_connection(hub: LiveHub) -> socket.socket:
    parts = urlsplit(hub.url)
    return socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20)


def everything_from(connection: socket.socket) -> bytes:
    """Read until the hub closes the connection."""
    read = b""
    while piece := connection.recv(65_536):
        read += piece
    return read


def head_of(data: bytes, adapter: str = "team/up") -> bytes:
    return (
        f"PUT /api/v1{url_of(data, adapter)} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode()


def test_what_arrived_before_the_client_left_stays(hub: LiveHub, http: httpx2.Client) -> None:
    data = os.urandom(3 * MIB)
    with raw_connection(hub) as connection:
        connection.sendall(head_of(data) + data[: 2 * MIB])
    wait_until(lambda: staged(http, data) == 2 * MIB)
    response = send_part(http, data, 2 * MIB, len(data))
    assert response.status_code == 201


def test_a_blob_is_received_by_one_session_at_a_time(hub: LiveHub, http: httpx2.Client) -> None:
    data = os.urandom(1000)
    before = set((hub.data_dir / "uploads").iterdir())
    with raw_connection(hub) as connection:
        connection.sendall(head_of(data) + data[:500])
        wait_until(lambda: set((hub.data_dir / "uploads").iterdir()) - before)
        response = http.put(url_of(data), content=data)
        problem(response, 409, "upload-busy")
        assert int(response.headers["retry-after"]) >= 1
        assert http.put(url_of(data, "other/up"), content=data).status_code == 201
        connection.sendall(data[500:])
        assert connection.recv(100).startswith(b"HTTP/1.1 201")


def test_a_client_that_falls_silent_is_cut_off(tmp_path: Path) -> None:
    data = os.urandom(1000)
    with start_hub(tmp_path, upload_idle_s=0.3) as hub, hub.client() as http:
        with raw_connection(hub) as connection:
            connection.sendall(head_of(data) + data[:500])
            answer = everything_from(connection)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"body-cut" in answer
        assert staged(http, data) == 500


def staged_bytes(data_dir: Path) -> int:
    return sum(path.stat().st_size for path in (data_dir / "uploads").iterdir())


def test_a_killed_hub_keeps_what_arrived(tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    with start_hub(tmp_path) as hub, raw_connection(hub) as connection:
        connection.sendall(head_of(data) + data[: 3 * MIB])
        wait_until(lambda: staged_bytes(tmp_path) >= MIB)
        hub.kill()
    with start_hub(tmp_path) as again, again.client() as http:
        offset = staged(http, data)
        assert offset is not None
        assert offset >= MIB
        response = send_part(http, data, offset, len(data))
        assert response.status_code == 201, response.text
        assert staged(http, data) is None


def test_a_stopped_hub_keeps_what_arrived(tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    with start_hub(tmp_path, shutdown_grace_s=1) as hub, raw_connection(hub) as connection:
        connection.sendall(head_of(data) + data[: 3 * MIB])
        wait_until(lambda: staged_bytes(tmp_path) >= MIB)
        hub.stop()
    with start_hub(tmp_path) as again, again.client() as http:
        offset = staged(http, data)
        assert offset is not None
        assert offset >= 2 * MIB, "all but the last batch, which was still being gathered"


def test_many_uploads_at_once_all_arrive(hub: LiveHub) -> None:
    blobs = [os.urandom(200_000 + number) for number in range(12)]
    statuses: list[int] = []

    def send(data: bytes) -> None:
        with hub.client() as http:
            statuses.append(http.put(url_of(data, "team/many"), content=data).status_code)

    threads = [threading.Thread(target=send, args=(data,)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * len(blobs)
