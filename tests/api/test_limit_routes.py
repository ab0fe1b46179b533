"""Go beyond every limit, and be told which one and when to try again."""

from __future__ import annotations

import os

import pytest

from registry.digest import Digest
from tests.api.conftest import HubMaker
from tests.hub_pushes import commit, file_bodies, problem, push, send_blobs, small_adapter


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(make_hub: HubMaker) -> None:
    hub = make_hub(max_file_bytes=1000)
    data = os.urandom(1001)
    body = problem(
        hub.put(f"/adapters/t/x/blobs/{Digest.of(data)}", content=data), 413, "too-large"
    )
    assert body["limit_bytes"] == 1000
    assert "ADAPTERS_MAX_FILE_BYTES" in body["hint"]
    part = {"Content-Range": "bytes 0-9/1001"}
    response = hub.put(f"/adapters/t/x/blobs/{Digest.of(data)}", content=data[:10], headers=part)
    problem(response, 413, "too-large")
    assert hub.put(f"/adapters/t/x/blobs/{Digest.of(data[:1000])}", content=data[:1000]).is_success


def test_a_revision_of_too_many_files_is_refused(make_hub: HubMaker) -> None:
    hub = make_hub(max_files_per_revision=3)
    notes = {f"note{number}.txt": b"x%d" % number for number in range(2)}
    files = {**small_adapter(), **notes}
    send_blobs(hub, "t/x", files)
    body = problem(commit(hub, "t/x", files), 422, "invalid")
    assert "3" in body["expected"]
    files.popitem()
    assert commit(hub, "t/x", files).status_code == 201


@pytest.mark.parametrize("announced", [True, False])
def test_a_json_body_beyond_the_limit_is_refused(make_hub: HubMaker, announced: bool) -> None:
    hub = make_hub(max_json_bytes=2000)
    blobs = [{"digest": "sha256:" + "0" * 64, "size_bytes": n} for n in range(100)]
    text = str({"blobs": blobs}).replace("'", '"').encode()
    assert len(text) > 2000
    content = text if announced else iter([text])
    headers = {"Content-Type": "application/json"}
    response = hub.post("/adapters/t/x/blobs/missing", content=content, headers=headers)
    problem(response, 413, "too-large")
    assert hub.post("/adapters/t/x/blobs/missing", json={"blobs": blobs[:10]}).is_success


def test_a_namespace_beyond_its_quota_is_refused(make_hub: HubMaker) -> None:
    hub = make_hub(namespace_quota_bytes=5000)
    one, two = os.urandom(3000), os.urandom(3000)
    assert hub.put(f"/adapters/t/x/blobs/{Digest.of(one)}", content=one).is_success
    response = hub.put(f"/adapters/t/x/blobs/{Digest.of(two)}", content=two)
    body = problem(response, 413, "quota-exceeded")
    assert "5000" in body["expected"]
    assert hub.put(f"/adapters/other/x/blobs/{Digest.of(two)}", content=two).is_success


def test_too_many_requests_must_wait(make_hub: HubMaker) -> None:
    hub = make_hub(requests_per_minute=5)
    assert [hub.get("/adapters").status_code for _ in range(5)] == [200] * 5
    response = hub.get("/adapters")
    problem(response, 429, "too-many-requests")
    assert 1 <= int(response.headers["retry-after"]) <= 12
    assert hub.get("http://localhost/health").status_code == 200, "health is not counted"


def test_too_many_uploads_at_once_must_wait(make_hub: HubMaker) -> None:
    hub = make_hub(max_concurrent_uploads=1)
    with hub.app.state.hub.uploads.enter():  # type: ignore[attr-defined]  # a Starlette app
        response = hub.put(f"/adapters/t/x/blobs/{Digest.of(b'y')}", content=b"y")
        problem(response, 429, "too-many-uploads")
        assert int(response.headers["retry-after"]) >= 1
    assert hub.put(f"/adapters/t/x/blobs/{Digest.of(b'y')}", content=b"y").is_success


def test_a_page_beyond_the_limit_is_refused(make_hub: HubMaker) -> None:
    hub = make_hub()
    body = problem(hub.get("/adapters", params={"limit": 1001}), 422, "invalid-request")
    assert body["field"] == "query.limit"
    problem(hub.get("/adapters", params={"limit": 0}), 422, "invalid-request")
    problem(hub.get("/adapters", params={"cursor": "nonsense"}), 422, "invalid")


def test_sizes_that_lie_are_refused(make_hub: HubMaker) -> None:
    hub = make_hub()
    files = small_adapter()
    push(hub, "t/x", files)
    bodies = file_bodies(files)
    bodies[0]["size_bytes"] += 1
    answer = hub.post("/adapters/t/x/revisions", json={"files": bodies})
    body = problem(answer, 422, "invalid")
    assert body["file"] == bodies[0]["path"]
