"""Call an open hub as programs, web pages and strangers would; read what it logs and counts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from api.errors import ForeignCallError
from api.hub.edge import check_local
from api.hub.logs import ACCESS, JsonFormatter
from tests.api.conftest import HubMaker
from tests.hub_pushes import problem, push, small_adapter


def scope(method: str = "GET", client: str | None = "127.0.0.1") -> dict[str, Any]:
    return {"type": "http", "method": method, "client": (client, 1) if client else None}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321", "127.5.5.5", "LOCALHOST"]
)
def test_a_program_on_this_machine_passes(host: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        check_local(scope(method), Headers({"host": host}))
    check_local(scope(client=None), Headers({"host": host}))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8321",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "user@localhost@evil.example",
        "testserver",
        "0.0.0.0",
        "[::",
        "192.168.1.1",
    ],
)
def test_another_name_for_this_host_does_not(host: str) -> None:
    with pytest.raises(ForeignCallError, match="name"):
        check_local(scope(), Headers({"host": host}))


def test_a_name_can_be_allowed() -> None:
    check_local(scope(), Headers({"host": "hub.example:80"}), allowed_hosts=("hub.example",))


@pytest.mark.parametrize("client", ["10.0.0.1", "192.168.1.9", "2001:db8::1", "evil"])
def test_another_machine_does_not(client: str) -> None:
    with pytest.raises(ForeignCallError, match="own machine"):
        check_local(scope(client=client), Headers({"host": "localhost"}))


@pytest.mark.parametrize(
    "header",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_web_page_changes_nothing(header: dict[str, str]) -> None:
    headers = Headers({"host": "localhost:8321", **header})
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        with pytest.raises(ForeignCallError, match="web page"):
            check_local(scope(method), headers)


@pytest.mark.parametrize(
    "header", [{"origin": "http://localhost:8321"}, {"sec-fetch-site": "none"}, {}]
)
def test_what_is_no_foreign_page_may(header: dict[str, str]) -> None:
    check_local(scope("POST"), Headers({"host": "localhost:8321", **header}))


@pytest.fixture
def hub(make_hub: HubMaker) -> TestClient:
    return make_hub()


def test_the_refusal_is_a_problem(hub: TestClient) -> None:
    response = hub.get("/adapters", headers={"Host": "evil.example"})
    body = problem(response, 403, "foreign-call")
    assert "ADAPTERS_ALLOWED_HOSTS" in body["hint"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
@pytest.mark.parametrize(
    "path",
    [
        "/adapters/t/x/blobs/missing",
        "/adapters/t/x/revisions",
        "/base-models",
        "/tokens",
        "/admin/gc",
    ],
)
def test_only_json_is_taken_for_json(hub: TestClient, path: str, content_type: str) -> None:
    response = hub.post(path, content=b"{}", headers={"Content-Type": content_type})
    problem(response, 415, "not-json")


def test_no_answer_invites_other_origins(hub: TestClient) -> None:
    response = hub.get("/adapters", headers={"Origin": "http://localhost:3000"})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert hub.options("/adapters").status_code == 405


def test_every_answer_has_an_id_and_is_not_sniffed(hub: TestClient) -> None:
    for path in ("/adapters", "/nope", "http://localhost/health"):
        response = hub.get(path, headers={"X-Request-ID": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        assert response.headers["x-content-type-options"] == "nosniff"
    assert hub.get("/adapters", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_unknown_routes_and_methods_are_problems(hub: TestClient) -> None:
    problem(hub.get("/nope"), 404, "no-such-route")
    problem(hub.get("http://localhost/"), 404, "no-such-route")
    problem(hub.get("/adapters/"), 404, "no-such-route")
    response = hub.delete("/adapters")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"


class Lines(logging.Handler):
    """Keep what is logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Any:
    handler = Lines()
    ACCESS.addHandler(handler)
    before = ACCESS.level
    ACCESS.setLevel(logging.INFO)
    yield handler.lines
    ACCESS.setLevel(before)
    ACCESS.removeHandler(handler)


def test_a_request_is_logged_once_without_its_secrets(
    hub: TestClient, lines: list[dict[str, Any]]
) -> None:
    headers = {"Authorization": "Bearer tern_secretsecretsecret", "X-Request-ID": "abc"}
    hub.get("/adapters", params={"search": "private"}, headers=headers)
    (line,) = lines
    assert line["method"] == "GET"
    assert line["path"] == "/api/v1/adapters"
    assert line["status"] == 200
    assert line["request_id"] == "abc"
    assert line["principal"] == "local"
    assert line["sent_bytes"] > 0
    assert line["seconds"] >= 0
    assert "secret" not in json.dumps(line)
    assert "private" not in json.dumps(line)


def test_what_nobody_foresaw_is_a_problem_without_internals(
    hub: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        message = "secret internals"
        raise ValueError(message)

    monkeypatch.setattr("registry.adapters.list_adapters", fail)
    response = hub.get("/adapters")
    assert "secret" not in response.text
    body = response.json()
    assert (response.status_code, body["code"]) == (500, "unexpected")
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["connection"] == "close"


def metric(hub: TestClient, line: str) -> float:
    text = hub.get("http://localhost/metrics").text
    found = [row for row in text.splitlines() if row.startswith(line + " ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_requests_are_counted_by_template(hub: TestClient) -> None:
    route = 'method="GET",route="/api/v1/adapters/{namespace}/{name}"'
    for name in ("a", "b", "c"):
        hub.get(f"/adapters/team/{name}")
    assert metric(hub, f'ternery_requests_total{{{route},status="404"}}') == 3
    assert metric(hub, f"ternery_request_seconds_count{{{route}}}") == 3
    hub.get("/no/such/place")
    nowhere = 'ternery_requests_total{method="(none)",route="(none)",status="404"}'
    assert metric(hub, nowhere) == 1


def test_pushes_and_bytes_are_counted(hub: TestClient) -> None:
    files = small_adapter()
    push(hub, "team/x", files)
    push(hub, "team/x", files)
    hub.post("/adapters/team/x/revisions", json={"files": [], "branch": "main"})
    hub.get("/adapters/team/x/files/main/adapter_config.json")
    assert metric(hub, 'ternery_pushes_total{result="created"}') == 1
    assert metric(hub, 'ternery_pushes_total{result="same"}') == 1
    sent = 2 * sum(len(data) for data in files.values())
    assert metric(hub, "ternery_blob_received_bytes_total") == sent
    assert metric(hub, "ternery_blob_sent_bytes_total") == len(files["adapter_config.json"])
    assert metric(hub, "ternery_uploads_in_flight") == 0


def test_a_refused_push_is_counted_by_its_code(hub: TestClient) -> None:
    push(hub, "team/x", small_adapter(1))
    missing = {"path": "a.txt", "digest": "sha256:" + "0" * 64, "size_bytes": 1}
    response = hub.post("/adapters/team/x/revisions", json={"files": [missing]})
    code = response.json()["code"]
    assert metric(hub, f'ternery_pushes_total{{result="{code}"}}') == 1


def test_a_hub_without_its_store_is_not_ready(make_hub: HubMaker, tmp_path: Path) -> None:
    hub = make_hub()
    assert hub.get("http://localhost/ready").json() == {"status": "ready"}
    hub.app.state.hub.registry.database.engine.dispose()  # type: ignore[attr-defined]  # a Starlette app
    for name in ("registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    response = hub.get("http://localhost/ready")
    body = problem(response, 503, "database-failed")
    assert int(response.headers["retry-after"]) > 0
    assert "sqlite" not in json.dumps(body)
    assert hub.get("http://localhost/health").status_code == 200
    assert metric(hub, 'ternery_store_errors_total{code="database-failed"}') == 1


def test_two_hubs_count_for_themselves(make_hub: HubMaker) -> None:
    one, two = make_hub(), make_hub()
    one.get("/adapters")
    line = 'ternery_requests_total{method="GET",route="/api/v1/adapters",status="200"}'
    assert (metric(one, line), metric(two, line)) == (1, 0)
