"""Check that bodies show all that the registry's values hold, and read back as they were sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.hub import answers
from api.hub.deps import parse_revision
from api.schemas import AdapterBody, LineageBody, RevisionBody
from api.schemas_requests import BlobIn, MissingIn, PushIn, TagIn, TokenIn
from registry.catalog.values import (
    AdapterRecord,
    BaseModelRecord,
    GraphEdge,
    LineageGraph,
    Page,
    RefRecord,
    RevisionRecord,
)
from registry.digest import Digest
from registry.errors import ValidationError as RegistryValidationError
from registry.manifest import ConfigSummary, LineageEdge, Manifest, Operation
from registry.manifest_json import from_body
from registry.refs import AdapterName, RefKind, check_ref_name

NAME = AdapterName("team", "x")
DIGEST = Digest.of(b"x")
MAIN = RefRecord(RefKind.BRANCH, "main", DIGEST, "2026-01-01T00:00:00.000Z")
V1 = RefRecord(RefKind.TAG, "v1", DIGEST, "2026-01-02T00:00:00.000Z")


def test_an_adapter_is_shown_whole() -> None:
    record = AdapterRecord(NAME, "base", "LORA", "then", "now", 3, 500, (MAIN,), (V1,))
    body = answers.adapter_body(record)
    assert body.name == "team/x"
    assert (body.base_model, body.kind, body.revisions, body.size_bytes) == ("base", "LORA", 3, 500)
    assert (body.created_at, body.updated_at) == ("then", "now")
    assert [ref.name for ref in body.branches] == ["main"]
    assert [ref.name for ref in body.tags] == ["v1"]
    assert AdapterBody.model_validate_json(body.model_dump_json()) == body


def test_a_revision_reads_back_as_its_manifest() -> None:
    manifest = Manifest(NAME, None, ConfigSummary("LORA"), (), message="a\nb", metrics={"f1": 0.5})
    body = answers.revision_body(RevisionRecord(DIGEST, manifest, (MAIN,)))
    again = RevisionBody.model_validate_json(body.model_dump_json())
    assert from_body(again.manifest) == manifest
    assert again.commit_id == DIGEST.hex[:40]
    assert again.digest == str(DIGEST)


def test_refs_are_told_apart() -> None:
    body = answers.refs_body([V1, MAIN])
    assert [ref.name for ref in body.branches] == ["main"]
    assert [ref.name for ref in body.tags] == ["v1"]
    assert body.tags[0].moved_at == V1.moved_at


def test_pages_keep_order_and_cursor() -> None:
    record = AdapterRecord(NAME, None, "LORA", "", "", 0, 0)
    page = answers.adapter_page(Page((record, record), "next"))
    assert (len(page.items), page.next_cursor) == (2, "next")
    assert answers.revision_page(Page(())).items == []


def test_lineage_is_shown_both_ways() -> None:
    edge = LineageEdge(Operation.MERGED_FROM, NAME, DIGEST, 0.25, {"method": "linear"})
    graph = LineageGraph((GraphEdge(NAME, DIGEST, edge, 1),), (), truncated=True)
    body = answers.lineage_body(graph)
    again = LineageBody.model_validate_json(body.model_dump_json())
    assert again.ancestors[0].edge.weight == 0.25
    assert again.ancestors[0].edge.parameters == {"method": "linear"}
    assert again.truncated


def test_a_listing_of_base_models_leaves_shapes_out() -> None:
    record = BaseModelRecord("n", "k", ("a",), {"q": (2, 3)}, True, 1, "", "")
    assert answers.base_model_body(record).shapes == {"q": [2, 3]}
    assert answers.base_model_body(record, shapes=False).shapes == {}


@pytest.mark.parametrize("text", [DIGEST.hex, str(DIGEST)])
def test_a_digest_is_read_in_both_spellings(text: str) -> None:
    assert parse_revision(NAME, text).digest == DIGEST


@pytest.mark.parametrize("text", ["main", "a/b", DIGEST.hex[:40], "a" * 63])
def test_anything_else_is_a_ref(text: str) -> None:
    reference = parse_revision(NAME, text)
    assert (reference.ref, reference.digest) == (text, None)


@given(st.text(alphabet="abZ09_./-", min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_the_pattern_of_refs_lets_through_every_name_that_the_registry_allows(text: str) -> None:
    try:
        check_ref_name(text)
    except RegistryValidationError:
        return
    assert TagIn(revision=text).revision == text


def test_a_push_tells_absent_from_null() -> None:
    files = [{"path": "a", "digest": str(DIGEST), "size_bytes": 1}]
    assert "expected_head" not in PushIn.model_validate({"files": files}).model_fields_set
    explicit = PushIn.model_validate({"files": files, "expected_head": None})
    assert "expected_head" in explicit.model_fields_set


@pytest.mark.parametrize("size", [-1, 1 << 51, 1.5, "1 MiB", None])
def test_a_size_is_a_sane_whole_number(size: object) -> None:
    with pytest.raises(ValidationError):
        BlobIn.model_validate({"digest": str(DIGEST), "size_bytes": size})


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ValidationError):
        MissingIn.model_validate({"blobs": [], "more": 1})


@pytest.mark.parametrize("namespace", ["*", "team", "a.b-c_d"])
def test_a_token_is_for_a_namespace_or_all(namespace: str) -> None:
    made = TokenIn.model_validate({"namespace": namespace, "role": "read", "label": "ci"})
    assert made.namespace == namespace


@pytest.mark.parametrize("namespace", ["**", "", "a b", "-a", "a/b", "*a", "a\n"])
def test_and_for_nothing_else(namespace: str) -> None:
    with pytest.raises(ValidationError):
        TokenIn.model_validate({"namespace": namespace, "role": "read", "label": "ci"})
