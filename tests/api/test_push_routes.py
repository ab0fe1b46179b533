"""Push, show, list and delete through a real server: what is answered, and what then is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from registry.digest import Digest
from tests.hub_pushes import commit, file_bodies, problem, push, send_blobs, small_adapter

NOWHERE = "sha256:" + "0" * 64


def test_a_real_adapter_comes_back_byte_for_byte(http: httpx2.Client, examples: Path) -> None:
    files = {path.name: path.read_bytes() for path in (examples / "sst2").iterdir()}
    revision = push(http, "team/sst2", files, message="first", metrics={"accuracy": 0.9})
    assert revision["commit_id"] == revision["digest"].removeprefix("sha256:")[:40]
    assert [ref["name"] for ref in revision["refs"]] == ["main"]
    manifest = revision["manifest"]
    assert manifest["message"] == "first"
    assert manifest["author"] == "local"
    assert manifest["config"]["kind"] == "LORA"
    assert {f["path"] for f in manifest["files"]} == set(files)
    for path, data in files.items():
        response = http.get(f"/adapters/team/sst2/files/main/{path}")
        assert response.content == data
        assert response.headers["etag"] == f'"{Digest.of(data).hex}"'


@pytest.mark.parametrize("spelling", ["digest", "hex", "commit_id", "branch", "tag"])
def test_a_revision_is_found_by_every_name(http: httpx2.Client, spelling: str) -> None:
    revision = push(http, "team/named", small_adapter(), branch="feature/x.y", tags=["release/1.0"])
    name = {
        "digest": revision["digest"],
        "hex": revision["digest"].removeprefix("sha256:"),
        "commit_id": revision["commit_id"],
        "branch": "feature/x.y",
        "tag": "release/1.0",
    }[spelling]
    found = http.get(f"/adapters/team/named/revisions/{quote(name, safe='')}")
    assert found.status_code == 200, found.text
    assert found.json()["digest"] == revision["digest"]
    assert {ref["name"] for ref in found.json()["refs"]} == {"feature/x.y", "release/1.0"}


def test_a_slash_that_is_not_escaped_is_another_route(http: httpx2.Client) -> None:
    push(http, "team/slash", small_adapter(), branch="a/b")
    assert http.get("/adapters/team/slash/revisions/a%2Fb").status_code == 200
    problem(http.get("/adapters/team/slash/revisions/a/b"), 404, "no-such-route")


def test_only_what_is_missing_is_asked_for(http: httpx2.Client) -> None:
    files = small_adapter(seed=1)
    asked = {"blobs": [{k: f[k] for k in ("digest", "size_bytes")} for f in file_bodies(files)]}
    before = http.post("/adapters/team/missing/blobs/missing", json=asked).json()["missing"]
    assert {m["digest"] for m in before} >= {str(Digest.of(files["adapter_model.safetensors"]))}
    assert all(m["offset"] == 0 for m in before)
    send_blobs(http, "team/missing", files)
    after = http.post("/adapters/team/missing/blobs/missing", json=asked)
    assert after.json() == {"missing": []}


def test_what_another_namespace_sent_is_not_known(http: httpx2.Client) -> None:
    files = small_adapter(seed=2)
    push(http, "mine/secret", files)
    asked = {"blobs": [{k: f[k] for k in ("digest", "size_bytes")} for f in file_bodies(files)]}
    answer = http.post("/adapters/yours/x/blobs/missing", json=asked).json()["missing"]
    assert {m["digest"] for m in answer} == {f["digest"] for f in file_bodies(files)}
    problem(commit(http, "yours/x", files), 409, "blobs-missing")


def test_the_same_push_again_changes_nothing(http: httpx2.Client) -> None:
    files = small_adapter(seed=3)
    send_blobs(http, "team/again", files)
    first = commit(http, "team/again", files, expected_head=None)
    second = commit(http, "team/again", files, expected_head=None)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["digest"] == second.json()["digest"]


def test_a_branch_moves_only_from_where_the_pusher_saw_it(http: httpx2.Client) -> None:
    one = push(http, "team/cas", small_adapter(4), expected_head=None)
    two = push(http, "team/cas", small_adapter(5), expected_head=one["digest"])
    assert [e["operation"] for e in two["manifest"]["lineage"]] == ["parent"]
    send_blobs(http, "team/cas", small_adapter(6))
    late = commit(http, "team/cas", small_adapter(6), expected_head=one["digest"])
    body = problem(late, 409, "branch-moved")
    assert (body["expected"], body["actual"]) == (one["digest"], two["digest"])
    assert body["branch"] == "main"
    assert "pull" in body["hint"]
    fresh = commit(http, "team/cas", small_adapter(6), expected_head=None)
    problem(fresh, 409, "branch-moved")
    assert commit(http, "team/cas", small_adapter(6)).status_code == 201, "without: append"


def test_the_log_is_paged_newest_first(http: httpx2.Client) -> None:
    pushed = [push(http, "team/log", small_adapter(seed), message=str(seed)) for seed in range(5)]
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = http.get("/adapters/team/log/revisions", params=params).json()
        seen += [item["digest"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == [revision["digest"] for revision in reversed(pushed)]


def test_adapters_are_listed_by_base_in_any_spelling(http: httpx2.Client) -> None:
    spellings = ["Google/Gemma-3-270m", "gemma3-270m", r"C:\models\gemma-3-270m"]
    for number, base in enumerate(spellings):
        push(http, f"listing/a{number}", small_adapter(base_model_name_or_path=base))
    push(http, "listing/other", small_adapter(base_model_name_or_path="bert-base"))
    page = http.get("/adapters", params={"base": "gemma-3-270M"}).json()
    assert [item["name"] for item in page["items"]] == ["listing/a0", "listing/a1", "listing/a2"]
    one = http.get("/adapters", params={"namespace": "listing", "limit": 1}).json()
    assert one["next_cursor"]
    rest = http.get(
        "/adapters", params={"namespace": "listing", "cursor": one["next_cursor"]}
    ).json()
    assert len(rest["items"]) == 3
    assert [
        item["name"] for item in http.get("/adapters", params={"search": "OTHER"}).json()["items"]
    ] == ["listing/other"]


def test_tags_stay_and_branches_go(http: httpx2.Client) -> None:
    one = push(http, "team/refs", small_adapter(1))
    two = push(http, "team/refs", small_adapter(2), branch="dev")
    tags = "/adapters/team/refs/tags"
    tagged = http.put(f"{tags}/v1", json={"revision": one["digest"]})
    assert (tagged.status_code, tagged.json()["digest"]) == (200, one["digest"])
    assert http.put(f"{tags}/v1", json={"revision": "main"}).status_code == 200
    problem(http.put(f"{tags}/v1", json={"revision": two["digest"]}), 409, "tag-exists")
    refs = http.get("/adapters/team/refs/refs").json()
    assert [ref["name"] for ref in refs["branches"]] == ["dev", "main"]
    assert [ref["name"] for ref in refs["tags"]] == ["v1"]
    assert http.delete("/adapters/team/refs/branches/dev").status_code == 204
    assert http.delete(f"{tags}/v1").status_code == 204
    problem(http.delete(f"{tags}/v1"), 404, "revision-not-found")
    problem(http.delete("/adapters/team/refs/branches/main"), 409, "last-ref")


def test_a_deleted_adapter_is_gone_from_everywhere(http: httpx2.Client) -> None:
    revision = push(http, "team/gone", small_adapter(1))
    blob = revision["manifest"]["files"][0]["digest"]
    assert http.delete("/adapters/team/gone").status_code == 204
    for path in ("", "/refs", "/revisions", "/revisions/main", f"/blobs/{blob}", "/lineage/main"):
        problem(http.get(f"/adapters/team/gone{path}"), 404, "adapter-not-found")


def test_lineage_is_shown_both_ways(http: httpx2.Client) -> None:
    source = push(http, "team/source", small_adapter(1))
    edge = {
        "operation": "compressed_from",
        "adapter": "team/source",
        "revision": source["digest"],
        "parameters": {"density": 0.2},
    }
    made = push(http, "team/made", small_adapter(2), lineage=[edge])
    up = http.get("/adapters/team/made/lineage/main").json()
    assert [e["edge"]["revision"] for e in up["ancestors"]] == [source["digest"]]
    assert up["ancestors"][0]["edge"]["parameters"] == {"density": 0.2}
    down = http.get("/adapters/team/source/lineage/main").json()
    assert [e["revision"] for e in down["descendants"]] == [made["digest"]]


def test_every_byte_can_be_verified(http: httpx2.Client) -> None:
    push(http, "team/verified", small_adapter(1))
    verdicts = http.post("/adapters/team/verified/verify/main").json()["files"]
    assert len(verdicts) >= 2
    assert all(verdict["ok"] for verdict in verdicts)


def test_a_refused_file_is_named_with_field_and_reason(http: httpx2.Client) -> None:
    files = small_adapter(1, r=-1)
    send_blobs(http, "team/refused", files)
    body = problem(commit(http, "team/refused", files), 422, "bad-config")
    assert body["file"] == "adapter_config.json"
    assert body["field"] == "r"
    problem(http.get("/adapters/team/refused"), 404, "adapter-not-found")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"branch": "../x"}, "body.branch"),
        ({"files": []}, "body.files"),
        ({"files": [{"path": "a", "digest": "x", "size_bytes": 1}]}, "body.files.0.digest"),
        (
            {"files": [{"path": "a", "digest": NOWHERE, "size_bytes": -1}]},
            "body.files.0.size_bytes",
        ),
        ({"message": "\x00"}, "body.message"),
        ({"unknown": 1}, "body.unknown"),
        ({"metrics": {"a": "b"}}, "body.metrics.a"),
        ({"expected_head": "main"}, "body.expected_head"),
    ],
)
def test_a_wrong_body_is_refused_by_field(
    http: httpx2.Client, change: dict[str, object], field: str
) -> None:
    body = {"files": file_bodies(small_adapter()), **change}
    answer = problem(http.post("/adapters/team/x/revisions", json=body), 422, "invalid-request")
    assert answer["field"] == field
    assert field in answer["detail"]


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"files": NaN}', b"\xff", b""])
def test_a_body_that_is_not_json_is_refused(http: httpx2.Client, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = http.post("/adapters/team/x/revisions", content=content, headers=headers)
    assert response.status_code in {400, 422}, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_base_models_are_registered_listed_and_found(http: httpx2.Client) -> None:
    made = http.post("/base-models", json={"name": "org/Small-Model", "aliases": ["the small one"]})
    assert made.status_code == 201, made.text
    for spelling in ("org/Small-Model", "smallmodel", "the%20small%20one", "org%2Fsmall_model"):
        found = http.get(f"/base-models/{spelling}")
        assert found.status_code == 200, found.text
        assert found.json()["name"] == "org/Small-Model"
    names = [item["name"] for item in http.get("/base-models").json()["items"]]
    assert "org/Small-Model" in names
    problem(http.get("/base-models/never-heard-of"), 404, "base-not-found")


def test_the_hub_counts_collects_and_remembers(http: httpx2.Client) -> None:
    push(http, "counted/x", small_adapter(40))
    stats = http.get("/admin/stats").json()
    assert stats["adapters"] >= 1
    assert stats["namespaces"]["counted"] > 0
    http.delete("/adapters/counted/x")
    listed = http.post("/admin/gc", json={"grace_s": 0}).json()
    assert listed["dry_run"] is True
    done = http.post("/admin/gc", json={"grace_s": 0, "dry_run": False}).json()
    assert set(done["blobs"]) >= set(listed["blobs"]) - {""}
    assert http.post("/admin/verify").json()["damaged"] == []
    acts = http.get("/admin/audit", params={"limit": 3}).json()
    assert acts["items"][0]["action"] == "gc"
    assert acts["next_cursor"]
