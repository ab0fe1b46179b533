"""Attack a hub as one of its tenants: learn of the others, speak as them, take what is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import AuthMode, HubSettings
from registry.catalog.errors import QuotaExceededError
from registry.digest import Digest
from tests.hub_pushes import commit, file_bodies, problem, push, send_blobs, small_adapter

ADMIN = "an-admin-secret-for-tests"
NOWHERE = "sha256:" + "0" * 64


class Tenants:
    """Be a hub with an admin, alice and bob, who may each write a namespace of their own."""

    def __init__(self, client: TestClient) -> None:
        self.app = client.app
        self.anybody = client
        self.admin = self.bearer(ADMIN)
        self.alice, self.bob = self.writer("alice", "alice"), self.writer("bob", "bob")

    def bearer(self, secret: str) -> TestClient:
        headers = {"Authorization": f"Bearer {secret}"}
        return TestClient(self.app, base_url="http://localhost/api/v1", headers=headers)

    def writer(self, namespace: str, label: str, role: str = "write") -> TestClient:
        body = {"namespace": namespace, "role": role, "label": label}
        return self.bearer(self.admin.post("/tokens", json=body).json()["secret"])


@contextmanager
def opened(folder: Path, **settings: Any) -> Iterator[Tenants]:
    given = HubSettings(data_dir=folder, auth=AuthMode.TOKEN, admin_token=ADMIN, **settings)
    app = create_app(given)
    with TestClient(
        app, base_url="http://localhost/api/v1", raise_server_exceptions=False
    ) as client:
        yield Tenants(client)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with opened(tmp_path_factory.mktemp("tenants")) as tenants:
        yield tenants


def same_answer(one: httpx2.Response, other: httpx2.Response) -> bool:
    """Tell whether two answers differ in nothing but what was asked for."""

    def shown(response: httpx2.Response) -> object:
        body = response.json()
        kept = {k: v for k, v in body.items() if k in {"code", "status", "title", "hint"}}
        names = sorted(set(response.headers) - {"x-request-id", "content-length", "date"})
        return response.status_code, kept, sorted(body), names

    return shown(one) == shown(other)


def test_a_foreign_adapter_answers_like_none(hub: Tenants) -> None:
    revision = push(hub.alice, "alice/secret", small_adapter(1))
    digest = revision["manifest"]["files"][0]["digest"]
    for path in (
        "",
        "/refs",
        "/revisions",
        "/revisions/main",
        f"/revisions/{revision['digest']}",
        f"/lineage/{revision['digest']}",
        f"/blobs/{digest}",
        "/files/main/adapter_config.json",
    ):
        there = hub.bob.get(f"/adapters/alice/secret{path}")
        absent = hub.bob.get(f"/adapters/alice/nothing{path}")
        assert there.status_code == 404
        assert same_answer(there, absent), path
    for method in ("PUT", "DELETE"):
        there = hub.bob.request(method, "/adapters/alice/secret/tags/v1", json={"revision": "main"})
        absent = hub.bob.request(method, "/adapters/alice/none/tags/v1", json={"revision": "main"})
        assert same_answer(there, absent), method


def test_foreign_digests_are_unknown_in_ones_own_namespace(hub: Tenants) -> None:
    files = small_adapter(2, base_model_name_or_path="hers")
    revision = push(hub.alice, "alice/held", files)
    push(hub.bob, "bob/own", small_adapter(3))
    for body in file_bodies(files):
        asked = {"blobs": [{k: body[k] for k in ("digest", "size_bytes")}]}
        lying = {"blobs": [{"digest": body["digest"], "size_bytes": 1}]}
        for question in (asked, lying):
            answer = hub.bob.post("/adapters/bob/own/blobs/missing", json=question).json()
            assert answer == {"missing": [{"digest": body["digest"], "offset": 0}]}
        problem(hub.bob.get(f"/adapters/bob/own/blobs/{body['digest']}"), 404, "file-not-found")
        finished = {"Content-Range": f"bytes */{body['size_bytes']}"}
        path = f"/adapters/bob/own/blobs/{body['digest']}"
        assert hub.bob.put(path, content=b"", headers=finished).status_code == 409
    problem(commit(hub.bob, "bob/own", files), 409, "blobs-missing")
    for kind in ("revisions", "lineage"):
        stolen = hub.bob.get(f"/adapters/bob/own/{kind}/{revision['digest']}")
        problem(stolen, 404, "revision-not-found")


def test_who_may_read_no_edge_sees_none(hub: Tenants) -> None:
    source = push(hub.alice, "alice/source", small_adapter(4))
    edge = {"operation": "merged_from", "adapter": "alice/source", "revision": source["digest"]}
    push(hub.bob, "bob/made", small_adapter(5), lineage=[edge])
    seen = hub.alice.get(f"/adapters/alice/source/lineage/{source['digest']}").json()
    assert seen["descendants"] == []
    assert hub.bob.get("/adapters/bob/made/lineage/main").json()["ancestors"] == []
    everything = hub.admin.get(f"/adapters/alice/source/lineage/{source['digest']}").json()
    assert [e["adapter"] for e in everything["descendants"]] == ["bob/made"]


def test_a_base_tells_nobody_what_others_pushed(hub: Tenants) -> None:
    push(hub.alice, "alice/b", small_adapter(6, base_model_name_or_path="org/hidden-7b"))
    assert hub.bob.get("/base-models/hidden-7b").status_code == 404
    tiny = small_adapter(7, base_model_name_or_path="hidden-7b", target_modules=["q"])
    push(hub.bob, "bob/b", tiny)
    shapes = hub.bob.get("/base-models/hidden-7b").json()["shapes"]
    assert shapes == {"q": [6, 4], "v": [6, 4]}  # its own
    other = hub.writer("carol", "carol")
    assert other.get("/base-models/hidden-7b").status_code == 404


@pytest.mark.parametrize(
    "claim", ["alice", "alice (alice)" + " " * 300, "x" * 400, "(bob", "alice)\u00a0("]
)
def test_the_label_of_the_token_ends_every_author(hub: Tenants, claim: str) -> None:
    revision = push(hub.bob, "bob/author", small_adapter(8), author=claim, message=claim[:50])
    author = revision["manifest"]["author"]
    assert author.endswith(" (bob)")
    assert len(author) <= 256


def test_totals_of_all_namespaces_are_for_readers_of_all(hub: Tenants) -> None:
    assert hub.bob.get("http://localhost/metrics").status_code == 403
    everywhere = hub.writer("*", "prometheus", "read")
    assert everywhere.get("http://localhost/metrics").status_code == 200
    for path in ("/admin/audit", "/admin/stats"):
        assert hub.bob.get(path).status_code == 403


def test_what_was_deleted_is_gone_at_once(hub: Tenants) -> None:
    files = small_adapter(9)
    kept = push(hub.alice, "alice/gone", files)
    branch = {**files, "README.md": b"only here"}
    push(hub.alice, "alice/gone", branch, branch="dev")
    path = f"/adapters/alice/gone/blobs/{Digest.of(b'only here')}"
    assert hub.alice.get(path).status_code == 200
    assert hub.alice.delete("/adapters/alice/gone/branches/dev").status_code == 204
    assert hub.alice.get(path).status_code == 404
    assert hub.alice.delete("/adapters/alice/gone").status_code == 403
    assert hub.admin.delete("/adapters/alice/gone").status_code == 204
    assert hub.alice.get(f"/adapters/alice/gone/revisions/{kept['digest']}").status_code == 404


def test_two_tokens_of_one_label_share_no_limit(tmp_path: Path) -> None:
    with opened(tmp_path, requests_per_minute=3) as hub:
        mimic = hub.writer("evil", "alice")
        while mimic.get("/whoami").status_code == 200:
            pass
        assert hub.alice.get("/whoami").status_code == 200


def test_one_tenant_cannot_hold_every_upload(hub: Tenants) -> None:
    gate = hub.alice.app.state.hub.uploads  # type: ignore[attr-defined]  # a Starlette app
    holder = next(t for t in hub.admin.get("/tokens").json()["items"] if t["label"] == "bob")["id"]
    held = [gate.enter(holder) for _ in range(16)]
    for place in held:
        place.__enter__()
    data = {"x.txt": b"y"}
    refused = hub.bob.put(f"/adapters/bob/x/blobs/{Digest.of(b'y')}", content=b"y")
    problem(refused, 429, "too-many-uploads")
    send_blobs(hub.alice, "alice/x", data)
    for place in held:
        place.__exit__(None, None, None)
    send_blobs(hub.bob, "bob/x", data)


@pytest.mark.parametrize(
    "parameters",
    [{"\ud800": 1}, {"a": "\ud800"}, {"a": "\0"}, {"a": "b" * 300_000}],
)
def test_lineage_holds_bounded_text(hub: Tenants, parameters: dict[str, Any]) -> None:
    files = small_adapter(10)
    send_blobs(hub.bob, "bob/edge", files)
    edge = {"operation": "merged_from", "adapter": "bob/a", "revision": NOWHERE}
    body = json.dumps(
        {"files": file_bodies(files), "lineage": [{**edge, "parameters": parameters}]}
    )
    answer = hub.bob.post(
        "/adapters/bob/edge/revisions", content=body, headers={"content-type": "application/json"}
    )
    problem(answer, 422, "invalid")


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "a\u202eb", "a\u2066b", "a\u2028b", "\x7f"])
def test_nothing_that_steers_a_terminal_is_kept(hub: Tenants, text: str) -> None:
    files = small_adapter(11)
    send_blobs(hub.bob, "bob/text", files)
    for field in ("message", "author", "kind", "base_model"):
        problem(commit(hub.bob, "bob/text", files, **{field: text}), 422, "invalid-request")


def test_nobody_fills_memory_before_we_know_who_it_is(hub: Tenants) -> None:
    body = b'{"blobs":[' + b"{}," * 2_000_000 + b"{}]}"
    headers = {"content-type": "application/json"}
    answer = hub.anybody.post("/adapters/bob/x/blobs/missing", content=body, headers=headers)
    problem(answer, 401, "token-missing")


@pytest.mark.parametrize(
    "body",
    [
        b'{"blobs":[' + b"{}," * 100_000 + b"{}]}",
        b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
    ],
    ids=["objects", "members"],
)
def test_a_small_body_of_very_many_values_is_not_parsed(hub: Tenants, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = hub.bob.post("/adapters/bob/x/blobs/missing", content=body, headers=headers)
    problem(answer, 413, "too-large")


def test_uploads_side_by_side_do_not_pass_the_quota(tmp_path: Path) -> None:
    with opened(tmp_path, namespace_quota_bytes=100) as hub:
        registry = hub.alice.app.state.hub.registry  # type: ignore[attr-defined]  # a Starlette app
        bodies = [bytes([n]) * 60 for n in range(2)]
        sessions = [
            registry.pushes.upload("bob", Digest.of(b), offset=0, size_bytes=60) for b in bodies
        ]
        entered = [session.__enter__() for session in sessions]
        for session, data in zip(entered, bodies, strict=True):
            session.write(data)
        sessions[0].__exit__(None, None, None)
        with pytest.raises(QuotaExceededError):
            sessions[1].__exit__(None, None, None)
        again = hub.bob.put(f"/adapters/bob/x/blobs/{Digest.of(bodies[0])}", content=bodies[0])
        assert again.status_code == 201
