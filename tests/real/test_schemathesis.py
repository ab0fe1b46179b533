"""Let schemathesis call every operation of a live hub with what its description allows and not.

It must find no server error, and no status, content type, header or body that the description
does not know. `TEST_SCHEMATHESIS_EXAMPLES=500` looks longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Err, Ok

from tests.hub_pushes import push, small_adapter
from tests.live_hub import LiveHub, start_hub

EXAMPLES = int(os.environ.get("TEST_SCHEMATHESIS_EXAMPLES", "6"))
TAGS = (
    "health", "adapters", "revisions", "blobs", "refs", "lineage", "base models", "tokens", "admin",
    "jobs",
)  # fmt: skip
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    with start_hub(tmp_path_factory.mktemp("hub"), requests_per_minute=0) as hub:
        with hub.client() as http:
            push(http, "team/sql-expert", small_adapter(), tags=["v1"])
            http.post("/tokens", json={"namespace": "team", "role": "read", "label": "x"})
        yield hub


@pytest.fixture(scope="module")
def operations(live: LiveHub) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{live.api}/openapi.json")
    results = list(schema.get_all_operations())
    assert not [result for result in results if isinstance(result, Err)]
    return [result.ok() for result in results if isinstance(result, Ok)]


def test_every_operation_is_called(operations: list[Any]) -> None:
    assert len(operations) > 30
    assert {tag for operation in operations for tag in operation.tags} == set(TAGS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("tag", TAGS)
def test_no_call_finds_a_server_error_or_an_unknown_answer(
    operations: list[Any], tag: str, mode: GenerationMode
) -> None:
    for operation in operations:
        if tag in operation.tags:
            call(operation, mode)


def call(operation: Any, mode: GenerationMode) -> None:
    """Call one operation with many inputs, all right or all wrong."""

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    try:
        check()
    except Unsatisfiable:  # nothing about this operation can be wrong
        assert mode is GenerationMode.NEGATIVE


def test_the_hub_lives_on(live: LiveHub) -> None:
    with live.client() as http:
        assert http.get("/whoami").status_code == 200
    assert not [line for line in live.log() if line["level"] == "error"]
