"""State what deletion takes along, and what it leaves, on every database."""

from __future__ import annotations

import pytest

from registry.catalog.errors import AdapterNotFoundError, LastRefError, RevisionNotFoundError
from registry.catalog.values import AdapterQuery
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, at, push

NAME = AdapterName("team", "x")


class RemovalContract:
    """Delete from one registry; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_a_tag_goes_and_its_revision_stays_reachable(self, registry: Registry) -> None:
        first = push(registry, "team/x", tags=("v1",)).revision.digest
        registry.adapters.delete_ref(NAME, RefKind.TAG, "v1")
        assert at(registry, f"team/x@{first}").refs[0].name == "main"
        with pytest.raises(RevisionNotFoundError):
            at(registry, "team/x:v1")
        registry.adapters.tag(Reference(NAME), "v1")
        assert at(registry, "team/x:v1").digest == first

    def test_what_only_a_branch_reached_goes_with_it_at_once(self, registry: Registry) -> None:
        kept = push(registry, "team/x", adapter_files(0)).revision.digest
        registry.adapters.branch(Reference(NAME), "dev")
        gone = [
            push(registry, "team/x", adapter_files(n), branch="dev").revision.digest for n in (1, 2)
        ]
        sizes = registry.adapters.get(NAME).size_bytes
        registry.adapters.delete_ref(NAME, RefKind.BRANCH, "dev")
        for digest in gone:
            with pytest.raises(RevisionNotFoundError):
                at(registry, f"team/x@{digest}")
        record = registry.adapters.get(NAME)
        assert record.revisions == 1
        assert record.size_bytes < sizes
        assert at(registry, "team/x").digest == kept

    def test_a_tag_keeps_what_a_branch_no_longer_reaches(self, registry: Registry) -> None:
        push(registry, "team/x")
        held = push(registry, "team/x", adapter_files(1), branch="dev", tags=("keep",)).revision
        push(registry, "team/x", adapter_files(2), branch="dev")
        registry.adapters.delete_ref(NAME, RefKind.BRANCH, "dev")
        assert at(registry, "team/x:keep").digest == held.digest
        assert registry.adapters.get(NAME).revisions == 2

    def test_the_last_ref_goes_only_with_the_adapter(self, registry: Registry) -> None:
        push(registry, "team/x")
        with pytest.raises(LastRefError):
            registry.adapters.delete_ref(NAME, RefKind.BRANCH, "main")
        registry.adapters.tag(Reference(NAME), "v1")
        registry.adapters.delete_ref(NAME, RefKind.BRANCH, "main")
        with pytest.raises(LastRefError):
            registry.adapters.delete_ref(NAME, RefKind.TAG, "v1")

    @pytest.mark.parametrize(
        ("kind", "name"), [(RefKind.TAG, "v9"), (RefKind.TAG, "main"), (RefKind.BRANCH, "dev")]
    )
    def test_what_is_not_there_cannot_go(
        self, registry: Registry, kind: RefKind, name: str
    ) -> None:
        push(registry, "team/x")
        with pytest.raises(RevisionNotFoundError):
            registry.adapters.delete_ref(NAME, kind, name)
        with pytest.raises(AdapterNotFoundError):
            registry.adapters.delete_ref(AdapterName("team", "none"), kind, name)

    def test_a_deleted_adapter_answers_nothing(self, registry: Registry) -> None:
        digest = push(registry, "team/x", tags=("v1",)).revision.digest
        blob = at(registry, "team/x").manifest.files[0].digest
        registry.adapters.delete(NAME)
        for ask in (
            lambda: at(registry, "team/x"),
            lambda: at(registry, f"team/x@{digest}"),
            lambda: registry.adapters.get(NAME),
            lambda: registry.adapters.refs(NAME),
            lambda: registry.adapters.log(Reference(NAME)),
            lambda: registry.adapters.find_blob(NAME, blob),
            lambda: registry.adapters.delete(NAME),
            lambda: registry.adapters.tag(Reference(NAME, digest=digest), "v2"),
        ):
            with pytest.raises(AdapterNotFoundError):
                ask()
        assert registry.adapters.list(AdapterQuery()).items == ()
        assert registry.stats().revisions == 0

    def test_a_name_can_begin_anew(self, registry: Registry) -> None:
        old = push(registry, "team/x", tags=("v1",)).revision.digest
        registry.adapters.delete(NAME)
        new = push(registry, "team/x", adapter_files(5, base="other"), expected_head=None).revision
        assert new.manifest.parent is None
        record = registry.adapters.get(NAME)
        assert (record.base_model, record.revisions, record.tags) == ("other", 1, ())
        with pytest.raises(RevisionNotFoundError):
            at(registry, f"team/x@{old}")

    def test_numbers_of_moves_are_never_used_again(self, registry: Registry) -> None:
        push(registry, "team/x")
        registry.adapters.delete(NAME)
        push(registry, "team/x", adapter_files(1))
        moves = list(registry.store.list_records("adapters/team/x/refs/branches/main/"))
        assert [key[-8:-5] for key in moves] == ["001", "002", "003"]

    def test_others_keep_what_they_share(self, registry: Registry) -> None:
        push(registry, "team/x")
        push(registry, "team/y")
        registry.adapters.delete(NAME)
        _, chunks = registry.adapters.open_file(
            Reference.parse("team/y"), "adapter_model.safetensors"
        )
        assert b"".join(chunks) == adapter_files()["adapter_model.safetensors"]
