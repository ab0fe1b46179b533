"""Check that the description of the API is complete: every answer, every problem, every pattern."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.settings import HubSettings

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    app = create_app(HubSettings(data_dir=tmp_path_factory.mktemp("data")))
    yield app.openapi()
    app.state.hub.registry.close()


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def named(operation: Operation) -> str:
    return f"{operation[0].upper()} {operation[1]}"


def test_every_route_of_the_contract_is_described(document: dict[str, Any]) -> None:
    there = {named(operation) for operation in operations(document)}
    adapter = "/api/v1/adapters/{namespace}/{name}"
    assert there >= {
        "GET /health",
        "GET /ready",
        "GET /metrics",
        "GET /api/v1/whoami",
        "GET /api/v1/adapters",
        f"GET {adapter}",
        f"DELETE {adapter}",
        f"GET {adapter}/revisions",
        f"POST {adapter}/revisions",
        f"GET {adapter}/revisions/{{revision}}",
        f"POST {adapter}/blobs/missing",
        f"GET {adapter}/blobs/{{digest}}",
        f"HEAD {adapter}/blobs/{{digest}}",
        f"PUT {adapter}/blobs/{{digest}}",
        f"GET {adapter}/files/{{revision}}/{{path}}",
        f"HEAD {adapter}/files/{{revision}}/{{path}}",
        f"GET {adapter}/refs",
        f"PUT {adapter}/tags/{{tag}}",
        f"DELETE {adapter}/tags/{{tag}}",
        f"DELETE {adapter}/branches/{{branch}}",
        f"GET {adapter}/lineage/{{revision}}",
        f"POST {adapter}/verify/{{revision}}",
        "GET /api/v1/base-models",
        "POST /api/v1/base-models",
        "GET /api/v1/base-models/{name}",
        "GET /api/v1/tokens",
        "POST /api/v1/tokens",
        "DELETE /api/v1/tokens/{token_id}",
        "POST /api/v1/admin/gc",
        "POST /api/v1/admin/verify",
        "GET /api/v1/admin/stats",
        "GET /api/v1/jobs",
        "POST /api/v1/jobs",
        "GET /api/v1/jobs/kinds",
        "GET /api/v1/jobs/{job_id}",
        "GET /api/v1/jobs/{job_id}/log",
        "GET /api/v1/jobs/{job_id}/events",
        "POST /api/v1/jobs/{job_id}/cancel",
        "POST /api/v1/jobs/{job_id}/retry",
    }


def test_every_operation_has_its_own_id_and_says_what_it_does(document: dict[str, Any]) -> None:
    found = operations(document)
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(ids) == len(set(ids))
    assert not [named(o) for o in found if not o[2].get("description")]
    assert not [named(o) for o in found if not o[2].get("tags")]


def test_every_error_answer_is_a_problem(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, answer in operation[2]["responses"].items():
            if status.startswith(("4", "5")):
                assert set(answer["content"]) == {"application/problem+json"}, named(operation)
            assert answer["description"], named(operation)


def test_every_guarded_operation_tells_how_it_refuses(document: dict[str, Any]) -> None:
    for operation in operations(document):
        if operation[1] not in {"/health", "/ready"}:
            assert {"401", "403", "429"} <= set(operation[2]["responses"]), named(operation)


def test_every_answer_with_a_body_has_a_schema(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, answer in operation[2]["responses"].items():
            if status in {"204", "304", "307"}:
                assert "content" not in answer, (named(operation), status)
                continue
            for media in answer["content"].values():
                assert media["schema"], (named(operation), status)


def test_every_text_in_a_path_has_a_pattern_or_a_length(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for parameter in operation[2].get("parameters", []):
            if parameter["in"] == "path":
                schema = parameter["schema"]
                assert "pattern" in schema or "maxLength" in schema, (named(operation), parameter)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    schemas = document["components"]["schemas"]
    for reference in set(references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_requests_refuse_what_they_do_not_know(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    loose = [
        name
        for name, schema in schemas.items()
        if name.endswith("In") and schema.get("additionalProperties") is not False
    ]
    assert not loose


def test_the_document_is_served(tmp_path: Path) -> None:
    app = create_app(HubSettings(data_dir=tmp_path))
    assert app.openapi() is app.openapi(), "made once"
    assert app.openapi_url == "/api/v1/openapi.json"
    assert app.docs_url is None
    app.state.hub.registry.close()
