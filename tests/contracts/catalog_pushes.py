"""State what a push must do on every database."""

from __future__ import annotations

import math

import pytest

from registry.catalog.errors import (
    BaseConflictError,
    BaseShapeError,
    BlobsMissingError,
    BranchConflictError,
    KindConflictError,
    QuotaExceededError,
    RefNameTakenError,
    TagExistsError,
)
from registry.catalog.values import AdapterQuery
from registry.digest import Digest, DigestMismatchError
from registry.errors import NotFoundError, ValidationError
from registry.manifest import LineageEdge, Operation
from registry.manifest_json import revision_id
from registry.push_request import ANY, PushFile, PushRequest
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, at, push, push_files, send

NAME = AdapterName("team", "x")
OTHER = Digest.of(b"somebody else's revision")


class PushContract:
    """Push to one registry; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_a_push_becomes_a_revision(self, registry: Registry) -> None:
        files = adapter_files()
        result = push(
            registry,
            "team/x",
            files,
            message="first",
            author="ann",
            tags=("v1",),
            metrics={"accuracy": 0.9},
        )
        revision, manifest = result.revision, result.revision.manifest
        assert result.created
        assert revision.digest == revision_id(manifest)
        assert [(f.path, f.digest) for f in manifest.files] == [
            (path, Digest.of(data)) for path, data in sorted(files.items())
        ]
        assert (manifest.message, manifest.author, dict(manifest.metrics)) == (
            "first",
            "ann",
            {"accuracy": 0.9},
        )
        assert (manifest.base_model, manifest.config.kind, manifest.parent) == (
            "tiny",
            "LORA",
            None,
        )
        assert [(r.kind, r.name) for r in revision.refs] == [
            (RefKind.BRANCH, "main"),
            (RefKind.TAG, "v1"),
        ]
        assert at(registry, "team/x") == revision == at(registry, "team/x:v1")

    def test_the_next_push_has_the_first_for_a_parent(self, registry: Registry) -> None:
        first = push(registry, "team/x").revision
        second = push(registry, "team/x", message="second").revision
        assert second.manifest.parent == first.digest
        assert at(registry, "team/x").digest == second.digest
        assert at(registry, f"team/x@{first.digest}").refs == ()

    def test_the_same_push_again_changes_nothing(self, registry: Registry) -> None:
        first = push(registry, "team/x", message="m")
        again = push(registry, "team/x", message="m")
        assert (first.created, again.created) == (True, False)
        assert again.revision == first.revision
        assert registry.adapters.get(NAME).revisions == 1

    def test_the_same_push_again_sends_nothing_and_may_add_tags(self, registry: Registry) -> None:
        push(registry, "team/x")
        assert send(registry, "team", adapter_files()) == 0
        again = push(registry, "team/x", tags=("v1", "v2"))
        assert not again.created
        assert [r.name for r in again.revision.refs] == ["main", "v1", "v2"]

    def test_a_retry_whose_reply_was_lost_finds_its_revision(self, registry: Registry) -> None:
        first = push(registry, "team/x", expected_head=None)
        again = push(registry, "team/x", expected_head=None)
        assert not again.created
        assert again.revision.digest == first.revision.digest
        later = push(registry, "team/x", message="2", expected_head=first.revision.digest)
        retried = push(registry, "team/x", message="2", expected_head=first.revision.digest)
        assert not retried.created
        assert retried.revision.digest == later.revision.digest

    def test_a_stale_push_is_refused_with_both_heads(self, registry: Registry) -> None:
        first = push(registry, "team/x").revision
        second = push(registry, "team/x", message="2").revision
        with pytest.raises(BranchConflictError) as caught:
            push(registry, "team/x", message="3", expected_head=first.digest)
        error = caught.value
        assert (error.branch, error.expected, error.actual) == ("main", first.digest, second.digest)
        assert "pull team/x:main" in error.hint
        assert at(registry, "team/x").digest == second.digest

    @pytest.mark.parametrize("expected", [None, OTHER])
    def test_an_unmet_expectation_is_refused(
        self, registry: Registry, expected: Digest | None
    ) -> None:
        head = push(registry, "team/x").revision.digest
        with pytest.raises(BranchConflictError) as caught:
            push(registry, "team/x", message="2", expected_head=expected)
        assert caught.value.actual == head

    def test_a_new_branch_with_an_expected_head_is_refused(self, registry: Registry) -> None:
        with pytest.raises(BranchConflictError) as caught:
            push(registry, "team/x", expected_head=OTHER)
        assert caught.value.actual is None
        assert registry.adapters.list(AdapterQuery()).items == ()

    def test_any_head_is_appended_to(self, registry: Registry) -> None:
        digests = [
            push(registry, "team/x", message=str(n), expected_head=ANY).revision.digest
            for n in range(3)
        ]
        log = registry.adapters.log(Reference(NAME)).items
        assert [revision.digest for revision in log] == digests[::-1]

    def test_branches_have_their_own_heads(self, registry: Registry) -> None:
        main = push(registry, "team/x").revision.digest
        other = push(registry, "team/x", adapter_files(1), branch="feature/a_b").revision
        assert other.manifest.parent is None
        assert at(registry, "team/x").digest == main
        assert at(registry, "team/x:feature/a_b").digest == other.digest

    def test_what_another_namespace_sent_has_to_be_sent_again(self, registry: Registry) -> None:
        files = adapter_files()
        push(registry, "team/x", files)
        with pytest.raises(BlobsMissingError) as caught:
            registry.pushes.commit(PushRequest(AdapterName("rival", "y"), push_files(files)))
        assert set(caught.value.digests) == {f.digest for f in push_files(files)}
        assert send(registry, "rival", files) == len(files)
        assert push(registry, "rival/y", files).created

    def test_an_upload_continues_where_it_stopped(self, registry: Registry) -> None:
        data = adapter_files()["adapter_model.safetensors"]
        digest = Digest.of(data)
        with registry.pushes.upload("team", digest, offset=0, size_bytes=len(data)) as session:
            session.write(data[:100])
        (missing,) = registry.pushes.missing("team", {digest: len(data)})
        assert missing.offset == 100
        (elsewhere,) = registry.pushes.missing("rival", {digest: len(data)})
        assert elsewhere.offset == 0
        assert push(registry, "team/x").created

    def test_wrong_bytes_are_not_kept(self, registry: Registry) -> None:
        wanted = Digest.of(b"right")
        upload = registry.pushes.upload("team", wanted, offset=0, size_bytes=5)
        with pytest.raises(DigestMismatchError), upload as session:
            session.write(b"wrong")
        (missing,) = registry.pushes.missing("team", {wanted: 5})
        assert missing.offset == 0
        assert registry.store.stat(wanted) is None

    def test_a_wrong_size_is_refused(self, registry: Registry) -> None:
        files = adapter_files()
        send(registry, "team", files)
        lying = tuple(PushFile(f.path, f.digest, f.size_bytes + 1) for f in push_files(files))
        with pytest.raises(ValidationError, match="bytes, not") as caught:
            registry.pushes.commit(PushRequest(NAME, lying))
        assert caught.value.file in files
        with pytest.raises(ValidationError, match="bytes, not"):
            registry.pushes.missing("team", {f.digest: f.size_bytes for f in lying})

    def test_a_refused_push_leaves_nothing(self, registry: Registry) -> None:
        files = adapter_files() | {"adapter_model.safetensors": b"not safetensors at all"}
        with pytest.raises(ValidationError):
            push(registry, "team/x", files)
        assert registry.adapters.list(AdapterQuery()).items == ()
        assert registry.bases.list() == ()
        with pytest.raises(NotFoundError):
            at(registry, "team/x")

    def test_a_quota_bounds_what_a_namespace_holds(self, place: Place) -> None:
        files = adapter_files()
        size = sum(len(data) for data in files.values())
        registry = place.open("small", namespace_quota_bytes=size + 10)
        push(registry, "team/x", files)
        with pytest.raises(QuotaExceededError, match="'team' may hold"):
            push(registry, "team/x", adapter_files(1))
        assert push(registry, "team/y", files).created
        assert push(registry, "rival/x", adapter_files(1)).created


class BindingContract:
    """Bind adapters to one base model, one kind and their refs; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_an_adapter_keeps_its_kind(self, registry: Registry) -> None:
        push(registry, "team/x")
        raw = {"weights.safetensors": adapter_files()["adapter_model.safetensors"]}
        with pytest.raises(KindConflictError) as caught:
            push(registry, "team/x", raw)
        assert caught.value.expected == "LORA"
        assert caught.value.actual != "LORA"

    def test_an_adapter_keeps_its_base(self, registry: Registry) -> None:
        push(registry, "team/x")
        with pytest.raises(BaseConflictError) as caught:
            push(registry, "team/x", adapter_files(1, base="org/huge"))
        assert (caught.value.expected, caught.value.actual) == ("tiny", "org/huge")
        assert [base.name for base in registry.bases.list()] == ["tiny"]

    def test_a_silent_configuration_takes_the_bound_base(self, registry: Registry) -> None:
        silent = adapter_files(1, base=None)
        assert push(registry, "team/y", silent).revision.manifest.base_model is None
        push(registry, "team/x")
        assert push(registry, "team/x", silent).revision.manifest.base_model == "tiny"
        assert registry.adapters.get(NAME).base_model == "tiny"

    def test_an_unknown_base_is_learned_once(self, registry: Registry) -> None:
        push(registry, "team/x", adapter_files(base=None))
        assert registry.adapters.get(NAME).base_model is None
        push(registry, "team/x", adapter_files(base=None), base_model="org/tiny-1")
        assert registry.adapters.get(NAME).base_model == "org/tiny-1"
        again = push(registry, "team/x", adapter_files(base=None), base_model="TINY1")
        assert not again.created

    def test_a_named_base_wins_over_the_configuration(self, registry: Registry) -> None:
        local = adapter_files(base="C:\\models\\checkpoint-9")
        manifest = push(registry, "team/x", local, base_model="org/tiny").revision.manifest
        assert manifest.base_model == "org/tiny"
        assert any("checkpoint-9" in warning for warning in manifest.warnings)

    def test_a_contradicting_shape_is_refused_by_name(self, registry: Registry) -> None:
        push(registry, "team/x")
        with pytest.raises(BaseShapeError) as caught:
            push(registry, "team/y", adapter_files(1, d_out=10))
        error = caught.value
        assert error.module == "layers.0.q"
        assert (error.expected_shape, error.actual_shape) == ((6, 4), (10, 4))
        assert "6×4" in error.message
        assert "10×4" in error.message
        with pytest.raises(NotFoundError):
            registry.adapters.get(AdapterName("team", "y"))

    def test_heads_may_differ_between_adapters_of_a_base(self, registry: Registry) -> None:
        modules = ("layers.0.q", "classifier")
        push(registry, "team/two", adapter_files(0, modules=("layers.0.q",)))
        for name, seed in (("team/a", 1), ("team/b", 2)):
            push(registry, name, adapter_files(seed, modules=modules))
        assert list(registry.bases.get("tiny").shapes) == ["layers.0.q"]

    def test_tags_stay_where_they_are(self, registry: Registry) -> None:
        first = push(registry, "team/x", tags=("v1",)).revision
        with pytest.raises(TagExistsError) as caught:
            push(registry, "team/x", message="2", tags=("v0", "v1"))
        assert caught.value.actual == first.digest
        assert at(registry, "team/x").digest == first.digest
        assert [ref.name for ref in registry.adapters.refs(NAME)] == ["main", "v1"]

    def test_branches_and_tags_share_no_name(self, registry: Registry) -> None:
        push(registry, "team/x", tags=("v1",))
        with pytest.raises(RefNameTakenError):
            push(registry, "team/x", message="2", branch="v1")
        with pytest.raises(RefNameTakenError):
            registry.adapters.tag(Reference(NAME), "main")

    def test_edges_are_kept_in_order(self, registry: Registry) -> None:
        sources = tuple(
            LineageEdge(Operation.MERGED_FROM, AdapterName("team", n), OTHER, weight, {"d": 0.5})
            for n, weight in (("b", 0.25), ("a", 0.75))
        )
        push(registry, "team/x")
        manifest = push(registry, "team/x", message="2", lineage=sources).revision.manifest
        assert manifest.lineage[1:] == sources
        again = push(registry, "team/x", message="2", lineage=sources)
        assert not again.created
        assert push(registry, "team/x", message="2", lineage=sources[::-1]).created

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"branch": "a b"}, "ref"),
            ({"branch": "0" * 40}, "ref"),
            ({"tags": ("..",)}, "ref"),
            ({"tags": ("main",)}, "tags"),
            ({"tags": tuple(f"t{n}" for n in range(65))}, "tags"),
            ({"metrics": {"x": math.nan}}, "metrics"),
            ({"metrics": {"x" * 200: 1.0}}, "metrics"),
            ({"message": "x" * 64_001}, "message"),
            ({"message": "\ud800"}, "message"),
            ({"message": "a\0b"}, "message"),
            ({"author": "x" * 257}, "author"),
            ({"lineage": (LineageEdge(Operation.PARENT, NAME, OTHER),)}, "lineage"),
            ({"lineage": (LineageEdge(Operation.MERGED_FROM, NAME, OTHER, math.inf),)}, "lineage"),
            ({"base_model": "../.."}, "base_model"),
            ({"base_model": "x" * 300}, "base_model"),
        ],
    )
    def test_what_no_push_may_ask(
        self, registry: Registry, fields: dict[str, object], field: str
    ) -> None:
        with pytest.raises(ValidationError) as caught:
            push(registry, "team/x", adapter_files(base=None), **fields)
        assert caught.value.field == field
        assert registry.adapters.list(AdapterQuery()).items == ()

    @pytest.mark.parametrize(
        "path", ["../x.json", "/etc/passwd", "a\\b.json", "weights.bin", "run.py", ""]
    )
    def test_what_no_file_may_be_called(self, registry: Registry, path: str) -> None:
        files = adapter_files() | {path: b"{}"}
        with pytest.raises(ValidationError):
            push(registry, "team/x", files)

    def test_too_many_files_and_bytes(self, place: Place) -> None:
        registry = place.open("small", max_files=1)
        with pytest.raises(ValidationError, match="1 to 1 files"):
            push(registry, "team/x")
        registry = place.open("smaller", max_revision_bytes=10)
        with pytest.raises(ValidationError, match="at most 10 bytes"):
            push(registry, "team/x")
