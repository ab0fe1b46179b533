"""Push small adapters to a hub with bare HTTP requests, for tests of the server alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from registry.digest import Digest
from tests.safetensors_files import config, good_file, lora


def small_adapter(seed: int = 0, **fields: Any) -> dict[str, bytes]:
    """Return the files of a LoRA of rank 2 on two modules; `fields` go into its configuration."""
    return {
        "adapter_model.safetensors": good_file(lora(["q", "v"], seed=seed)),
        "adapter_config.json": config(**fields),
    }


def file_bodies(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return files as a push names them."""
    return [
        {"path": path, "digest": str(Digest.of(data)), "size_bytes": len(data)}
        for path, data in files.items()
    ]


def send_blobs(http: httpx2.Client, adapter: str, files: Mapping[str, bytes]) -> None:
    """Send every file's blob."""
    for data in files.values():
        response = http.put(f"/adapters/{adapter}/blobs/{Digest.of(data)}", content=data)
        assert response.status_code == 201, response.text


def commit(
    http: httpx2.Client, adapter: str, files: Mapping[str, bytes], **fields: Any
) -> httpx2.Response:
    """Make a revision of blobs that were sent."""
    body = {"files": file_bodies(files), **fields}
    return http.post(f"/adapters/{adapter}/revisions", json=body)


def push(
    http: httpx2.Client, adapter: str, files: Mapping[str, bytes], **fields: Any
) -> dict[str, Any]:
    """Send blobs, make a revision of them, and return its body."""
    send_blobs(http, adapter, files)
    response = commit(http, adapter, files, **fields)
    assert response.status_code in {200, 201}, response.text
    body: dict[str, Any] = response.json()
    return body


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is this problem, and return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"] == f"urn:ternery:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body
