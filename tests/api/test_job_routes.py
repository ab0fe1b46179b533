"""Ask a hub for jobs over HTTP: who may, what is answered, and what an event stream tells."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.hub.job_events import Place, place_of
from api.jobs.kinds import KINDS
from registry.jobs.values import JobFailure, JobProgress
from registry.service import Registry
from tests.api.conftest import HubMaker
from tests.hostile.test_hub_tenants import Tenants, opened, same_answer
from tests.hub_pushes import problem, push, small_adapter
from tests.jobs_kit import lives, long_noop
from tests.live_hub import start_hub, wait_until

NOBODY = "0" * 16
NOOP = {"kind": "noop", "parameters": {"namespace": "team", "steps": 2}}


@pytest.fixture
def hub(make_hub: HubMaker) -> TestClient:
    return make_hub()


@pytest.fixture
def registry(hub: TestClient) -> Registry:
    found: Registry = hub.app.state.hub.registry  # type: ignore[attr-defined]  # our own app
    return found


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with opened(tmp_path_factory.mktemp("jobs")) as tenants:
        yield tenants


def submitted(
    http: TestClient, body: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    answer = http.post("/jobs", json={**(body or NOOP), **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_is_queued_and_shown(hub: TestClient) -> None:
    made = submitted(hub, gpus=1, max_attempts=5)
    assert (made["state"], made["attempt"], made["worker"]) == ("queued", 0, None)
    assert (made["gpus"], made["max_attempts"], made["asked_by"]) == (1, 5, "local")
    assert made["parameters"] == {"namespace": "team", "steps": 2, "step_s": 0.0}
    assert hub.get(f"/jobs/{made['id']}").json() == made
    assert hub.get("/jobs").json() == {"items": [made], "next_cursor": None}


def test_listings_are_paged_and_filtered(hub: TestClient, registry: Registry) -> None:
    ids = [submitted(hub)["id"] for _ in range(3)]
    registry.leases.claim("w", lease_s=60)
    page = hub.get("/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in page["items"]] == [ids[2], ids[1]]
    rest = hub.get("/jobs", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [job["id"] for job in rest["items"]] == [ids[0]]
    running = hub.get("/jobs", params={"state": "running"}).json()["items"]
    assert [job["id"] for job in running] == [ids[0]]
    assert hub.get("/jobs", params={"kind": "gc"}).json()["items"] == []
    problem(hub.get("/jobs", params={"state": "sleeping"}), 422, "invalid-request")
    problem(hub.get("/jobs", params={"cursor": "xx"}), 422, "invalid")


def test_a_key_makes_a_request_safe_to_repeat(hub: TestClient) -> None:
    first = submitted(hub, idempotency_key="k")
    again = hub.post("/jobs", json={**NOOP, "idempotency_key": "k"})
    assert (again.status_code, again.json()) == (200, first)
    other = {"kind": "noop", "parameters": {"namespace": "team", "steps": 9}}
    problem(hub.post("/jobs", json={**other, "idempotency_key": "k"}), 409, "job-key-taken")


@pytest.mark.parametrize("kind", ["route", "transfer", "x"])
def test_an_unknown_kind_is_told_what_there_is(hub: TestClient, kind: str) -> None:
    told = problem(hub.post("/jobs", json={"kind": kind}), 422, "no-such-job-kind")
    assert all(name in told["detail"] for name in KINDS)


@pytest.mark.parametrize(
    ("kind", "parameters", "field"),
    [
        ("noop", {}, "parameters.namespace"),
        ("noop", {"namespace": "team", "more": 1}, "parameters.more"),
        ("noop", {"namespace": "team", "steps": 0}, "parameters.steps"),
        ("noop", {"namespace": "a/b"}, "parameters.namespace"),
        ("compress", {}, "source"),
        ("compress", {"source": "team/a"}, "source"),
        ("compress", {"source": "team/a", "target": "t/b", "base_model": "x"}, "base_model"),
        ("compress", {"base_model": "nothing"}, "base_model"),
        ("compress", {"source": "team/a", "target": "team/b@sha256:" + "0" * 64}, "target"),
        ("merge", {"sources": ["team/a"], "target": "team/b", "weights": [1, 2]}, "weights"),
        ("evaluate", {"source": "team/a", "base_model": "rel", "rows": "/x"}, "base_model"),
        ("gc", {"grace_s": -1}, "grace_s"),
    ],
)
def test_parameters_are_checked_before_anything_is_queued(
    hub: TestClient, kind: str, parameters: dict[str, Any], field: str
) -> None:
    push(hub, "team/a", small_adapter())
    told = problem(hub.post("/jobs", json={"kind": kind, "parameters": parameters}), 422, "bad-job")
    assert told["field"].endswith(field)
    assert hub.get("/jobs").json()["items"] == []


def test_a_method_is_checked_before_anything_is_queued(hub: TestClient) -> None:
    push(hub, "team/a", small_adapter())
    wanted = {"source": "team/a", "target": "team/b"}
    two = {**wanted, "how": {"method": "rd", "bits": 1, "layers": 2}}
    problem(hub.post("/jobs", json={"kind": "compress", "parameters": two}), 422, "bad-option")
    foreign = {**wanted, "how": {"method": "compeft", "bits": 1}}
    problem(hub.post("/jobs", json={"kind": "compress", "parameters": foreign}), 422, "bad-job")
    absent = {"source": "team/none", "target": "team/b"}
    answer = hub.post("/jobs", json={"kind": "compress", "parameters": absent})
    problem(answer, 404, "adapter-not-found")


def test_every_kind_is_listed_with_what_it_takes(hub: TestClient) -> None:
    found = {kind["kind"]: kind for kind in hub.get("/jobs/kinds").json()["items"]}
    assert set(found) == set(KINDS)
    assert "sources" in found["merge"]["parameters"]["properties"]


def test_a_job_is_cancelled_and_tried_again(hub: TestClient, registry: Registry) -> None:
    job = submitted(hub)["id"]
    problem(hub.post(f"/jobs/{job}/retry"), 409, "job-state")
    assert hub.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert hub.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert hub.post(f"/jobs/{job}/retry").json()["state"] == "queued"
    held = registry.leases.claim("w", lease_s=60)
    assert held is not None
    running = hub.post(f"/jobs/{job}/cancel").json()
    assert (running["state"], running["cancel_requested"]) == ("running", True)
    acts = [entry["action"] for entry in hub.get("/admin/audit").json()["items"]]
    assert acts[:4] == ["cancel-job", "retry-job", "cancel-job", "cancel-job"]


def test_an_error_is_told(hub: TestClient, registry: Registry) -> None:
    job = submitted(hub)["id"]
    held = registry.leases.claim("w", lease_s=60)
    assert held is not None
    registry.leases.fail(held.lease, JobFailure("bad-option", "the rank is wrong", "fix it"))
    shown = hub.get(f"/jobs/{job}").json()
    assert shown["state"] == "failed"
    assert shown["error"] == {
        "code": "bad-option",
        "message": "the rank is wrong",
        "hint": "fix it",
    }


@pytest.mark.parametrize("act", ["", "/log", "/events"])
def test_an_unknown_job_is_not_found(hub: TestClient, act: str) -> None:
    problem(hub.get(f"/jobs/{NOBODY}{act}"), 404, "job-not-found")
    problem(hub.get(f"/jobs/xyz{act}"), 422, "invalid-request")


def test_a_log_is_read_from_its_end(hub: TestClient, registry: Registry) -> None:
    job = submitted(hub)["id"]
    held = registry.leases.claim("w", lease_s=60)
    assert held is not None
    registry.leases.log(held.lease, ["one", "two", "three"])
    lines = hub.get(f"/jobs/{job}/log", params={"limit": 2}).json()["lines"]
    assert [line["text"] for line in lines] == ["two", "three"]
    rest = hub.get(f"/jobs/{job}/log", params={"after": lines[0]["number"]}).json()["lines"]
    assert [line["text"] for line in rest] == ["three"]


def read_events(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def test_a_stream_tells_what_happens_until_the_end(hub: TestClient, registry: Registry) -> None:
    job = submitted(hub)["id"]
    held = registry.leases.claim("w", lease_s=60)
    assert held is not None

    def work() -> None:
        registry.leases.log(held.lease, ["hello"])
        registry.leases.report(held.lease, JobProgress(1, 2, "half"))
        registry.leases.succeed(held.lease, {"done": True})

    timer = threading.Timer(0.8, work)
    timer.start()
    answer = hub.get(f"/jobs/{job}/events")
    timer.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = read_events(answer.text)
    assert [body["state"] for name, _, body in found if name == "job"] == ["running", "succeeded"]
    assert [body["text"] for name, _, body in found if name == "log"] == ["hello"]
    assert found[-1][2]["outcome"] == {"done": True}
    again = hub.get(f"/jobs/{job}/events", headers={"Last-Event-ID": found[-1][1]})
    assert read_events(again.text) == [], "what was seen is not told again"
    middle = hub.get(f"/jobs/{job}/events", headers={"Last-Event-ID": found[0][1]})
    assert read_events(middle.text) == found[1:]


@pytest.mark.parametrize(
    ("text", "place"),
    [("3.7", Place(3, 7)), ("", Place()), ("x", Place()), ("3", Place()), ("1" * 30, Place())],
)
def test_a_place_is_read_from_the_id_of_an_event(text: str, place: Place) -> None:
    assert place_of(text) == place


def test_a_stopping_hub_ends_its_streams(tmp_path: Path) -> None:
    with start_hub(tmp_path) as hub, hub.client() as http:
        job = http.post("/jobs", json=NOOP).json()["id"]
        with http.stream("GET", f"/jobs/{job}/events") as stream:
            chunks = stream.iter_lines()
            assert next(chunks) == "event: job"
            hub.process.terminate()
            list(chunks)
        hub.process.wait(8)


def test_a_tenant_sees_the_jobs_of_its_namespace(tenants: Tenants) -> None:
    push(tenants.alice, "alice/a", small_adapter())
    push(tenants.bob, "bob/b", small_adapter(1))
    hers = submitted(tenants.alice, {"kind": "noop", "parameters": {"namespace": "alice"}})["id"]
    both = {"sources": ["alice/a", "bob/b"], "target": "alice/m"}
    shared = submitted(tenants.admin, {"kind": "merge", "parameters": both})
    assert shared["namespace"] == "*"
    assert [job["id"] for job in tenants.alice.get("/jobs").json()["items"]] == [hers]
    assert tenants.bob.get("/jobs").json()["items"] == []
    assert len(tenants.admin.get("/jobs").json()["items"]) == 2
    for path in ("", "/log", "/events"):
        there = tenants.bob.get(f"/jobs/{hers}{path}")
        absent = tenants.bob.get(f"/jobs/{NOBODY}{path}")
        assert there.status_code == 404
        assert same_answer(there, absent)
    for act in ("cancel", "retry"):
        assert same_answer(
            tenants.bob.post(f"/jobs/{hers}/{act}"), tenants.bob.post(f"/jobs/{NOBODY}/{act}")
        )
    assert tenants.alice.get(f"/jobs/{shared['id']}").status_code == 404
    by_parent = tenants.bob.get("/jobs", params={"parent": hers}).json()["items"]
    assert by_parent == []


@pytest.mark.parametrize(
    ("kind", "parameters", "code"),
    [
        ("noop", {"namespace": "alice"}, "not-allowed"),
        ("compress", {"source": "alice/a", "target": "bob/x"}, "adapter-not-found"),
        ("compress", {"source": "bob/b", "target": "alice/x"}, "adapter-not-found"),
        ("merge", {"sources": ["bob/b", "alice/a"], "target": "bob/x"}, "adapter-not-found"),
        ("compress", {"base_model": "tiny", "namespace": "alice"}, "bad-job"),
        ("similar", {"source": "alice/a"}, "adapter-not-found"),
        ("similar", {"source": "bob/b", "namespace": "alice"}, "not-allowed"),
        ("similar", {"base_model": "nobody-has-it"}, "base-not-found"),
        ("similar", {"base_model": "tiny", "source": "bob/b"}, "bad-job"),
        ("similar", {}, "bad-job"),
        ("verify", {"source": "alice/a"}, "adapter-not-found"),
        ("verify", {}, "not-allowed"),
        ("gc", {}, "not-allowed"),
        (
            "evaluate",
            {"source": "bob/b", "base_model": "/etc", "rows": "/etc/passwd"},
            "not-allowed",
        ),
    ],
)
def test_a_tenant_asks_for_nothing_beyond_its_rights(
    tenants: Tenants, kind: str, parameters: dict[str, Any], code: str
) -> None:
    push(tenants.alice, "alice/a", small_adapter(base_model_name_or_path="tiny"))
    push(tenants.bob, "bob/b", small_adapter(1))
    answer = tenants.bob.post("/jobs", json={"kind": kind, "parameters": parameters})
    assert answer.json()["code"] == code, answer.text


def test_comparing_tells_of_one_namespace_only(tenants: Tenants) -> None:
    base = "shared-base"
    push(tenants.alice, "alice/near", small_adapter(base_model_name_or_path=base))
    push(tenants.bob, "bob/near", small_adapter(1, base_model_name_or_path=base))
    asked = {"kind": "similar", "parameters": {"source": "alice/near"}}
    hers = submitted(tenants.alice, asked)
    assert (hers["namespace"], hers["parameters"]["namespace"]) == ("alice", "alice")
    by_base = {"kind": "similar", "parameters": {"base_model": "shared-base"}}
    assert submitted(tenants.bob, by_base)["parameters"]["namespace"] == "bob"
    everybody = submitted(tenants.admin, by_base)
    assert (everybody["namespace"], everybody["parameters"].get("namespace")) == ("*", None)
    assert tenants.bob.get(f"/jobs/{everybody['id']}").status_code == 404


def test_a_reader_sees_and_changes_nothing(tenants: Tenants) -> None:
    reader = tenants.writer("alice", "reader", role="read")
    body = {"kind": "noop", "parameters": {"namespace": "alice"}}
    problem(reader.post("/jobs", json=body), 403, "not-allowed")
    job = submitted(tenants.alice, body)["id"]
    assert reader.get(f"/jobs/{job}").json()["state"] == "queued"
    problem(reader.post(f"/jobs/{job}/cancel"), 403, "not-allowed")
    problem(reader.post(f"/jobs/{job}/retry"), 403, "not-allowed")


def test_a_map_takes_what_the_tenant_may_write(tenants: Tenants) -> None:
    for name in ("one", "two"):
        push(tenants.alice, f"alice/{name}", small_adapter(base_model_name_or_path="maps"))
    push(tenants.bob, "bob/three", small_adapter(2, base_model_name_or_path="maps"))
    asked = {"kind": "compress", "parameters": {"base_model": "maps"}}
    made = submitted(tenants.alice, asked)
    assert (made["namespace"], made["children"]) == ("alice", 2)
    children = tenants.alice.get("/jobs", params={"parent": made["id"]}).json()["items"]
    targets = sorted(child["parameters"]["target"] for child in children)
    assert targets == ["alice/one-small", "alice/two-small"]
    everything = submitted(tenants.admin, asked)
    assert (everything["namespace"], everything["children"]) == ("*", 3)


def test_a_hub_runs_jobs_beside_itself(tmp_path: Path) -> None:
    with start_hub(tmp_path, job_slots=1) as hub, hub.client() as http:
        job = http.post("/jobs", json=NOOP).json()["id"]
        wait_until(lambda: http.get(f"/jobs/{job}").json()["state"] == "succeeded", timeout_s=40)
        worker = http.get(f"/jobs/{job}/log").json()["lines"][0]["text"].rpartition(":")[2]
        assert int(worker) != hub.process.pid
        http.post("/jobs", json={"kind": "noop", "parameters": long_noop()})
        wait_until(lambda: http.get("/jobs").json()["items"][0]["state"] == "running")
        hub.stop()
        assert not lives(int(worker)), "it is gone before the hub is"


def test_a_job_survives_the_death_of_its_hub(tmp_path: Path) -> None:
    long = {"kind": "noop", "parameters": long_noop(steps=20, step_s=0.2), "max_attempts": 1}
    with start_hub(tmp_path, job_slots=1) as hub, hub.client() as http:
        job = http.post("/jobs", json=long).json()["id"]
        wait_until(lambda: http.get(f"/jobs/{job}").json()["checkpoint"], timeout_s=40)
        wait_until(lambda: http.get(f"/jobs/{job}/log").json()["lines"])
        worker = int(http.get(f"/jobs/{job}/log").json()["lines"][0]["text"].rpartition(":")[2])
        hub.kill()
    wait_until(lambda: not lives(worker), timeout_s=15)
    with start_hub(tmp_path, job_slots=1) as again, again.client() as http:
        wait_until(lambda: http.get(f"/jobs/{job}").json()["state"] == "succeeded", timeout_s=60)
        done = http.get(f"/jobs/{job}").json()
        assert done["attempt"] == 2, "the attempt that its worker gave back is forgiven"
        assert done["outcome"]["begun_at"] >= 1
        again.stop()


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with start_hub(tmp_path, job_slots=1, job_lease_s=3) as hub, hub.client() as http:
        job = http.post("/jobs", json={"kind": "noop", "parameters": long_noop(15, 0.2)}).json()[
            "id"
        ]
        wait_until(lambda: http.get(f"/jobs/{job}/log").json()["lines"], timeout_s=40)
        text = http.get(f"/jobs/{job}/log").json()["lines"][0]["text"]
        os.kill(int(text.rpartition(":")[2]), signal.SIGKILL)
        wait_until(lambda: http.get(f"/jobs/{job}").json()["state"] == "succeeded", timeout_s=60)
        assert http.get(f"/jobs/{job}").json()["attempt"] == 2
        hub.stop()
    assert any("another one begins" in str(line["message"]) for line in hub.log())
