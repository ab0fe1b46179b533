"""Fetch blobs and files whole, in part and conditionally, and only through their own adapter."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import HubSettings
from registry.digest import Digest
from registry.service import RegistrySettings, open_registry
from registry.storage.blobs_memory import MemoryBlobStore
from tests.api.conftest import HubMaker
from tests.hub_pushes import problem, push, small_adapter
from tests.live_hub import start_hub, wait_until

MIB = 1 << 20
README = os.urandom(1000).hex().encode()


@pytest.fixture(scope="module")
def file_url(http: httpx2.Client) -> str:
    push(http, "team/down", {**small_adapter(), "README.md": README, "empty.txt": b""})
    return "/adapters/team/down/files/main/README.md"


@pytest.fixture(scope="module")
def blob_url(file_url: str) -> str:
    return f"/adapters/team/down/blobs/{Digest.of(README)}"


@pytest.fixture(params=["file", "blob"])
def url(request: pytest.FixtureRequest, file_url: str, blob_url: str) -> str:
    return {"file": file_url, "blob": blob_url}[request.param]


def test_the_whole_is_sent_as_an_attachment(http: httpx2.Client, url: str) -> None:
    response = http.get(url)
    assert response.status_code == 200
    assert response.content == README
    assert response.headers["content-length"] == str(len(README))
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment;")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == f'"{Digest.of(README).hex}"'
    assert "no-cache" in response.headers["cache-control"]
    assert "content-encoding" not in response.headers


def test_head_tells_the_same_without_a_body(http: httpx2.Client, url: str) -> None:
    got, told = http.get(url), http.head(url)
    assert told.status_code == 200
    assert told.content == b""
    kept = {"content-length", "etag", "accept-ranges", "content-type", "content-disposition"}
    assert {k: told.headers[k] for k in kept} == {k: got.headers[k] for k in kept}


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1990-", 1990, 2000),
        ("bytes=-7", 1993, 2000),
    ],
)
def test_a_range_is_cut_out(
    http: httpx2.Client, url: str, asked: str, begin: int, end: int
) -> None:
    response = http.get(url, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == README[begin:end]
    assert response.headers["content-range"] == f"bytes {begin}-{end - 1}/2000"
    assert http.head(url, headers={"Range": asked}).status_code == 206


def test_a_range_outside_is_refused(http: httpx2.Client, url: str) -> None:
    response = http.get(url, headers={"Range": "bytes=2000-"})
    problem(response, 416, "range-outside")
    assert response.headers["content-range"] == "bytes */2000"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=x"])
def test_what_is_no_single_range_gets_the_whole(http: httpx2.Client, url: str, asked: str) -> None:
    response = http.get(url, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, README)


def test_what_the_client_has_is_not_sent_again(http: httpx2.Client, url: str) -> None:
    etag = http.head(url).headers["etag"]
    same = http.get(url, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == etag
    assert http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_range_of_another_version_gets_the_whole(http: httpx2.Client, url: str) -> None:
    etag = http.head(url).headers["etag"]
    held = http.get(url, headers={"Range": "bytes=0-9", "If-Range": etag})
    changed = http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (held.status_code, len(held.content)) == (206, 10)
    assert (changed.status_code, len(changed.content)) == (200, 2000)


def test_an_empty_file_is_sent(http: httpx2.Client, file_url: str) -> None:
    response = http.get(file_url.replace("README.md", "empty.txt"))
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "0"


def test_a_blob_is_no_capability(http: httpx2.Client, blob_url: str) -> None:
    other = small_adapter(seed=77)
    push(http, "team/other", other)
    foreign = Digest.of(other["adapter_model.safetensors"])
    assert http.get(f"/adapters/team/other/blobs/{foreign}").status_code == 200
    problem(http.get(f"/adapters/team/down/blobs/{foreign}"), 404, "file-not-found")
    unknown = Digest.of(b"nobody sent this")
    problem(http.get(f"/adapters/team/down/blobs/{unknown}"), 404, "file-not-found")


def test_an_uploaded_blob_that_no_revision_names_is_not_served(http: httpx2.Client) -> None:
    data = os.urandom(50)
    push(http, "team/down2", small_adapter())
    assert (
        http.put(f"/adapters/team/down2/blobs/{Digest.of(data)}", content=data).status_code == 201
    )
    problem(http.get(f"/adapters/team/down2/blobs/{Digest.of(data)}"), 404, "file-not-found")


@pytest.mark.parametrize(
    "path", ["nope.txt", "..%2F..%2Fetc%2Fpasswd", "../secret", "%00", "a%0Ab", "README.md/x"]
)
def test_a_file_that_is_not_there_is_not_found(
    http: httpx2.Client, file_url: str, path: str
) -> None:
    response = http.get(file_url.removesuffix("README.md") + path)
    assert response.status_code == 404, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_large_file_comes_whole_and_in_part(tmp_path: Path) -> None:
    note = os.urandom(4 * MIB).hex().encode()
    with start_hub(tmp_path) as hub, hub.client() as http:
        push(http, "team/large", {**small_adapter(), "notes.txt": note})
        url = "/adapters/team/large/files/main/notes.txt"
        assert http.get(url).content == note
        middle = http.get(url, headers={"Range": f"bytes={MIB + 1}-{5 * MIB}"})
        assert middle.content == note[MIB + 1 : 5 * MIB + 1]


def test_a_reader_that_leaves_early_harms_nobody(tmp_path: Path) -> None:
    note = os.urandom(6 * MIB).hex().encode()
    with start_hub(tmp_path) as hub, hub.client() as http:
        push(http, "team/large", {**small_adapter(), "notes.txt": note})
        url = "/adapters/team/large/files/main/notes.txt"
        for _ in range(5):
            with http.stream("GET", url) as response:
                next(response.iter_raw(1000))
        assert http.get(url).content == note
        wait_until(lambda: [line.get("path") for line in hub.log()].count(f"/api/v1{url}") == 6)
        assert not [line for line in hub.log() if line["level"] == "error"]


def test_damaged_bytes_are_never_sent_as_if_whole(tmp_path: Path) -> None:
    small, large = b"s" * 100, os.urandom(3 * MIB).hex().encode()
    with start_hub(tmp_path) as hub, hub.client() as http:
        push(http, "team/hurt", {**small_adapter(), "small.txt": small, "large.txt": large})
        for data in (small, large):
            stored = next((tmp_path / "store").rglob(Digest.of(data).hex + "*"))
            stored.chmod(0o600)
            stored.write_bytes(b"x" + stored.read_bytes()[1:])
        url = "/adapters/team/hurt/files/main"
        problem(http.get(f"{url}/small.txt"), 503, "storage-failed")
        with pytest.raises(httpx2.RemoteProtocolError):
            http.get(f"{url}/large.txt")
        verdicts = http.post("/adapters/team/hurt/verify/main").json()["files"]
        assert {v["path"] for v in verdicts if not v["ok"]} == {"small.txt", "large.txt"}
        damaged = http.post("/admin/verify").json()["damaged"]
        assert {d["path"] for d in damaged} == {"small.txt", "large.txt"}


def test_a_lost_blob_is_the_hubs_fault(tmp_path: Path) -> None:
    files = small_adapter()
    with start_hub(tmp_path) as hub, hub.client() as http:
        push(http, "team/lost", files)
        digest = Digest.of(files["adapter_config.json"])
        next((tmp_path / "store").rglob(digest.hex + "*")).unlink()
        problem(http.get(f"/adapters/team/lost/blobs/{digest}"), 503, "storage-failed")


class SigningStore(MemoryBlobStore):
    """Sign URLs, as a bucket does."""

    def presigned_url(self, digest: Digest, *, expires_s: int) -> str | None:
        """Return a URL that names the blob and its end."""
        return f"https://bucket.example/{digest.hex}?expires={expires_s}"


def signing_hub(data_dir: Path, **settings: object) -> TestClient:
    opened = open_registry(RegistrySettings(data_dir=data_dir, store_url="memory:"))
    app = create_app(
        HubSettings.model_validate({"data_dir": data_dir, **settings}),
        replace(opened, store=SigningStore()),
    )
    return TestClient(app, base_url="http://localhost/api/v1", follow_redirects=False)


def test_downloads_are_redirected_only_where_the_hub_is_set_to(tmp_path: Path) -> None:
    files = small_adapter()
    digest = Digest.of(files["adapter_config.json"])
    url = "/adapters/team/x/files/main/adapter_config.json"
    with signing_hub(tmp_path, presigned_downloads=True, presigned_expires_s=60) as http:
        push(http, "team/x", files)
        response = http.get(url)
        assert response.status_code == 307
        assert response.headers["location"] == f"https://bucket.example/{digest.hex}?expires=60"
        assert response.headers["cache-control"] == "no-store"
        assert response.content == b""
        etag = {"If-None-Match": f'"{digest.hex}"'}
        assert http.get(url, headers=etag).status_code == 304
        problem(http.get("/adapters/team/x/files/main/nope"), 404, "file-not-found")
        assert http.app.state.hub.metrics.bytes_out._value.get() == 0  # type: ignore[attr-defined]  # a Starlette app


def test_a_store_that_signs_nothing_streams(make_hub: HubMaker) -> None:
    http = make_hub(presigned_downloads=True)
    files = small_adapter()
    push(http, "team/x", files)
    response = http.get("/adapters/team/x/files/main/adapter_config.json")
    assert (response.status_code, response.content) == (200, files["adapter_config.json"])
