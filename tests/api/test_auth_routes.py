"""Call a hub that asks for tokens: who gets in, who sees what, and what nobody learns."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.errors import StartError
from api.settings import AuthMode, HubSettings
from tests.api.conftest import HubMaker
from tests.hub_pushes import file_bodies, problem, push, small_adapter

ADMIN = "an-admin-secret-for-tests"
TOKENS = "/tokens"


class Guarded:
    """Be a hub that asks for tokens, with one for each role in `team` and one elsewhere."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.admin = self.bearer(ADMIN)
        roles = [("team", "read"), ("team", "write"), ("team", "admin"), ("other", "admin")]
        self.secrets = {
            f"{namespace} {role}": self.make(namespace, role)["secret"] for namespace, role in roles
        }

    def bearer(self, secret: str) -> TestClient:
        headers = {"Authorization": f"Bearer {secret}"}
        return TestClient(self.client.app, base_url="http://localhost/api/v1", headers=headers)

    def make(self, namespace: str, role: str, **fields: Any) -> dict[str, Any]:
        body = {"namespace": namespace, "role": role, "label": f"{namespace} {role}", **fields}
        response = self.admin.post(TOKENS, json=body)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    def as_(self, who: str) -> TestClient:
        return self.bearer(self.secrets[who])


@pytest.fixture
def guarded(make_hub: HubMaker) -> Guarded:
    return Guarded(make_hub(auth=AuthMode.TOKEN, admin_token=ADMIN))


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token x", ADMIN],
)
def test_without_a_bearer_token_nobody_gets_in(guarded: Guarded, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = guarded.client.get("/adapters", headers=headers)
    body = problem(response, 401, "token-missing")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "adapters login" in body["hint"]


@pytest.mark.parametrize(
    "secret", ["wrong", ADMIN + "x", ADMIN[:-1], "tern_" + "a" * 49, "tern_é", "x" * 10_000]
)
def test_a_wrong_token_is_refused(guarded: Guarded, secret: str) -> None:
    headers = {b"Authorization": b"Bearer " + secret.encode()}
    response = guarded.client.get("/whoami", headers=headers)
    problem(response, 401, "token-invalid")


def test_cookies_and_query_parameters_are_no_tokens(guarded: Guarded) -> None:
    guarded.client.cookies.set("token", ADMIN)
    problem(guarded.client.get("/adapters", params={"token": ADMIN}), 401, "token-missing")


def test_health_needs_no_token_and_metrics_do(guarded: Guarded, make_hub: HubMaker) -> None:
    assert guarded.client.get("http://localhost/health").status_code == 200
    assert guarded.client.get("http://localhost/ready").status_code == 200
    problem(guarded.client.get("http://localhost/metrics"), 401, "token-missing")
    assert guarded.admin.get("http://localhost/metrics").status_code == 200
    opened = make_hub(auth=AuthMode.TOKEN, admin_token=ADMIN, metrics_open=True)
    assert opened.get("http://localhost/metrics").status_code == 200


def test_whoami_tells_rights(guarded: Guarded) -> None:
    who = guarded.as_("team write").get("/whoami").json()
    assert who == {"label": "team write", "grants": {"team": "write"}, "open": False}
    assert guarded.admin.get("/whoami").json()["grants"] == {"*": "admin"}


def adapter_calls(http: httpx2.Client, name: str) -> list[tuple[str, httpx2.Response]]:
    """Call everything there is for an adapter."""
    files = file_bodies(small_adapter())
    digest = files[0]["digest"]
    gets = [
        "", "/refs", "/revisions", "/revisions/main", "/lineage/main",
        f"/blobs/{digest}", "/files/main/adapter_config.json",
    ]  # fmt: skip
    url = f"/adapters/{name}"
    answers = [(f"GET {path}", http.get(url + path)) for path in gets]
    answers.append(("verify", http.post(f"{url}/verify/main")))
    answers.append(("tag", http.put(f"{url}/tags/v1", json={"revision": "main"})))
    answers.append(("untag", http.delete(f"{url}/tags/v1")))
    answers.append(("missing", http.post(f"{url}/blobs/missing", json={"blobs": []})))
    answers.append(("blob", http.put(f"{url}/blobs/{digest}", content=b"x")))
    answers.append(("push", http.post(f"{url}/revisions", json={"files": files})))
    answers.append(("unbranch", http.delete(f"{url}/branches/main")))
    answers.append(("delete", http.delete(url)))
    return answers


def test_what_may_not_be_read_answers_like_what_is_not_there(guarded: Guarded) -> None:
    push(guarded.admin, "team/there", small_adapter())
    stranger = guarded.as_("other admin")
    there = adapter_calls(stranger, "team/there")
    absent = adapter_calls(stranger, "team/gone")
    for (call, one), (_, other) in zip(there, absent, strict=True):
        assert one.status_code == other.status_code == 404, call
        kept = {"content-type", "cache-control", "www-authenticate"}
        assert {k: one.headers.get(k) for k in kept} == {k: other.headers.get(k) for k in kept}
        first, second = one.json(), other.json()
        for body in (first, second):
            body.pop("request_id")
            body.pop("instance")
        second["detail"] = second["detail"].replace("team/gone", "team/there")
        assert first == second, call


def test_and_like_what_is_not_there_for_those_who_may(guarded: Guarded) -> None:
    hidden = guarded.as_("other admin").get("/adapters/team/x").json()
    absent = guarded.as_("team read").get("/adapters/team/x").json()
    assert {**hidden, "request_id": ""} == {**absent, "request_id": ""}


def test_a_reader_reads_and_changes_nothing(guarded: Guarded) -> None:
    push(guarded.admin, "team/there", small_adapter())
    answers = adapter_calls(guarded.as_("team read"), "team/there")
    for call, response in answers:
        if call.startswith("GET") or call == "verify":
            assert response.status_code == 200, call
        else:
            problem(response, 403, "not-allowed")


def test_a_writer_pushes_and_does_not_delete(guarded: Guarded) -> None:
    writer = guarded.as_("team write")
    revision = push(writer, "team/mine", small_adapter(), author="somebody else")
    assert revision["manifest"]["author"] == "somebody else (team write)"
    problem(writer.delete("/adapters/team/mine"), 403, "not-allowed")
    assert guarded.as_("team admin").delete("/adapters/team/mine").status_code == 204


def test_listings_show_what_may_be_read(guarded: Guarded) -> None:
    push(guarded.admin, "team/a", small_adapter())
    push(guarded.admin, "other/b", small_adapter())

    def names(http: TestClient) -> list[str]:
        return [item["name"] for item in http.get("/adapters").json()["items"]]

    assert names(guarded.admin) == ["other/b", "team/a"]
    assert names(guarded.as_("team read")) == ["team/a"]
    response = guarded.as_("team read").get("/adapters", params={"namespace": "other"})
    assert response.json()["items"] == []


def test_lineage_into_what_may_not_be_read_is_left_out(guarded: Guarded) -> None:
    source = push(guarded.admin, "other/secret", small_adapter(1))
    edge = {"operation": "merged_from", "adapter": "other/secret", "revision": source["digest"]}
    push(guarded.admin, "team/open", small_adapter(2), lineage=[edge])
    shown = guarded.as_("team read").get("/adapters/team/open/lineage/main").json()
    assert shown["ancestors"] == []
    assert guarded.admin.get("/adapters/team/open/lineage/main").json()["ancestors"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/admin/verify"), ("GET", "/admin/stats"), ("GET", "/admin/audit")],
)
def test_the_hub_is_administered_by_admins_of_all(guarded: Guarded, method: str, path: str) -> None:
    problem(guarded.as_("team admin").request(method, path), 403, "not-allowed")
    assert guarded.admin.request(method, path).status_code == 200


def test_collecting_and_registering_are_for_admins_of_all(guarded: Guarded) -> None:
    team = guarded.as_("team admin")
    problem(team.post("/admin/gc", json={}), 403, "not-allowed")
    problem(team.post("/base-models", json={"name": "x"}), 403, "not-allowed")


def test_an_admin_of_a_namespace_makes_tokens_for_it_alone(guarded: Guarded) -> None:
    team = guarded.as_("team admin")
    made = team.post(TOKENS, json={"namespace": "team", "role": "read", "label": "ci"})
    assert made.status_code == 201
    assert made.json()["secret"].startswith("tern_")
    for namespace in ("other", "*"):
        wanted = {"namespace": namespace, "role": "read", "label": "ci"}
        problem(team.post(TOKENS, json=wanted), 403, "not-allowed")
    writer = guarded.as_("team write")
    wanted = {"namespace": "team", "role": "read", "label": "ci"}
    problem(writer.post(TOKENS, json=wanted), 403, "not-allowed")


def test_tokens_are_listed_without_secrets_and_by_their_admins(guarded: Guarded) -> None:
    listed = guarded.as_("team admin").get(TOKENS)
    assert {item["namespace"] for item in listed.json()["items"]} == {"team"}
    assert not any(secret in listed.text for secret in guarded.secrets.values())
    assert guarded.as_("team read").get(TOKENS).json()["items"] == []
    assert len(guarded.admin.get(TOKENS).json()["items"]) == 4


def test_a_revoked_token_stops_at_once(guarded: Guarded) -> None:
    made = guarded.make("team", "read")
    http = guarded.bearer(made["secret"])
    assert http.get("/whoami").status_code == 200
    problem(guarded.as_("other admin").delete(f"{TOKENS}/{made['id']}"), 404, "token-not-found")
    assert guarded.as_("team admin").delete(f"{TOKENS}/{made['id']}").status_code == 204
    problem(http.get("/whoami"), 401, "token-invalid")


def test_a_token_cannot_expire_in_the_past(guarded: Guarded) -> None:
    wanted = {
        "namespace": "team",
        "role": "read",
        "label": "x",
        "expires_at": "2020-01-01T00:00:00.000Z",
    }
    body = problem(guarded.admin.post(TOKENS, json=wanted), 422, "invalid")
    assert body["field"] == "expires_at"


def test_too_many_wrong_tokens_are_not_looked_at(make_hub: HubMaker) -> None:
    hub = Guarded(make_hub(auth=AuthMode.TOKEN, admin_token=ADMIN, failed_tokens_per_minute=3))
    for _ in range(3):
        problem(hub.bearer("wrong").get("/whoami"), 401, "token-invalid")
    response = hub.bearer("wrong").get("/whoami")
    problem(response, 429, "too-many-wrong-tokens")
    assert int(response.headers["retry-after"]) > 0
    unseen = hub.as_("team read")
    problem(unseen.get("/whoami"), 429, "too-many-wrong-tokens")
    assert hub.admin.get("/whoami").status_code == 200, "accepted before: not locked out"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "0.0.0.0", "auth": "none"}, "ADAPTERS_AUTH=token"),
        ({"host": "0.0.0.0"}, "adapters admin token create"),
        ({"host": "::"}, "ADAPTERS_ADMIN_TOKEN"),
        ({"host": "hub.example", "auth": "token"}, "adapters admin token create"),
        ({"auth": "token"}, "adapters admin token create"),
    ],
)
def test_a_hub_that_could_not_tell_callers_apart_does_not_start(
    make_hub: HubMaker, settings: dict[str, str], says: str
) -> None:
    with pytest.raises(StartError) as caught:
        make_hub(**settings)
    assert says in caught.value.hint


def test_a_hub_starts_once_somebody_can_administer_it(guarded: Guarded) -> None:
    data_dir = guarded.client.app.state.hub.settings.data_dir  # type: ignore[attr-defined]  # a Starlette app
    settings = HubSettings(host="0.0.0.0", data_dir=data_dir)
    with pytest.raises(StartError):
        create_app(settings)
    guarded.make("*", "read")
    with pytest.raises(StartError):
        create_app(settings)
    guarded.make("*", "admin")
    with TestClient(create_app(settings)) as client:
        assert client.get("/health").status_code == 200
