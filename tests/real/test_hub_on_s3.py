"""Run a hub on a real bucket: push, stream, redirect to a signed URL, and restart on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.hub_pushes import push, small_adapter
from tests.live_hub import HubDiedError, LiveHub, start_hub
from tests.real.services import S3Service, bucket, configured, s3_service

URL = "/adapters/team/x/files/main/adapter_model.safetensors"


@pytest.fixture(scope="module")
def service() -> Iterator[S3Service]:
    """Give the server, and let hubs find it in their environment."""
    found = s3_service()
    with configured(found):
        yield found


@pytest.fixture
def store(service: S3Service) -> Iterator[str]:
    with bucket(service) as name:
        yield f"s3://{name}/hub"


@pytest.fixture
def hub(store: str, tmp_path: Path) -> Iterator[LiveHub]:
    with start_hub(tmp_path, store=store, presigned_downloads=True) as live:
        yield live


def test_a_download_is_redirected_to_the_bucket(hub: LiveHub, service: S3Service) -> None:
    files = small_adapter()
    with hub.client() as http:
        push(http, "team/x", files)
        response = http.get(URL, follow_redirects=False)
    assert response.status_code == 307
    location = response.headers["location"]
    assert urlsplit(location).netloc == urlsplit(service.endpoint_url).netloc
    assert httpx2.get(location).content == files["adapter_model.safetensors"]
    part = httpx2.get(location, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, files["adapter_model.safetensors"][8:16])
    assert httpx2.get(location.split("?")[0]).status_code == 403, "only the signature opens it"


def test_without_the_setting_it_is_streamed(store: str, tmp_path: Path) -> None:
    files = small_adapter(seed=5)
    with start_hub(tmp_path, store=store) as hub, hub.client() as http:
        push(http, "other/x", files)
        url = URL.replace("team/x", "other/x")
        assert http.get(url).content == files["adapter_model.safetensors"]
        part = http.get(url, headers={"Range": "bytes=8-15"})
        assert part.content == files["adapter_model.safetensors"][8:16]


def test_a_hub_comes_back_on_its_bucket(store: str, tmp_path: Path) -> None:
    files = small_adapter(seed=6)
    with start_hub(tmp_path, store=store) as hub, hub.client() as http:
        revision = push(http, "team/x", files)
        hub.kill()
    with start_hub(tmp_path, store=store) as hub, hub.client() as http:
        assert http.get("/adapters/team/x/revisions/main").json() == revision
        assert http.post("/admin/verify").json()["damaged"] == []


def test_without_its_bucket_a_hub_does_not_start(service: S3Service, tmp_path: Path) -> None:
    with pytest.raises(HubDiedError, match="no-such-bucket-here"):
        start_hub(tmp_path, store="s3://no-such-bucket-here/x")
