"""State what the catalog answers on every database."""

from __future__ import annotations

import pytest

from registry.catalog.cursors import encode_cursor
from registry.catalog.errors import (
    AdapterNotFoundError,
    FileNotInRevisionError,
    PinConflictError,
    RevisionNotFoundError,
)
from registry.catalog.values import AdapterQuery, AuditEntry, RevisionRecord
from registry.digest import Digest
from registry.errors import ValidationError
from registry.manifest import LineageEdge, Operation
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, at, push

NAME = AdapterName("team", "x")


def names(registry: Registry, query: AdapterQuery) -> list[str]:
    """Return the names of all adapters that a query finds, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = registry.adapters.list(
            AdapterQuery(
                readable=query.readable,
                namespace=query.namespace,
                base=query.base,
                search=query.search,
                kind=query.kind,
                limit=query.limit,
                cursor=cursor,
            )
        )
        assert len(page.items) <= query.limit
        found += [str(item.name) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


class QueryContract:
    """Ask one registry; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    @pytest.fixture
    def full(self, registry: Registry) -> Registry:
        for number, name in enumerate(
            ["team/b", "team/a", "ann/z", "Team/a", "bob/50_percent", "bob/x-50.percent"]
        ):
            base = "org/Big-Model" if name.startswith("bob") else "tiny"
            push(registry, name, adapter_files(number, base=base))
        raw = {"w.safetensors": adapter_files(99)["adapter_model.safetensors"]}
        push(registry, "ann/raw", raw)
        return registry

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_pages_have_everything_once_and_in_order(self, full: Registry, limit: int) -> None:
        assert names(full, AdapterQuery(limit=limit)) == [
            "Team/a",
            "ann/raw",
            "ann/z",
            "bob/50_percent",
            "bob/x-50.percent",
            "team/a",
            "team/b",
        ]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (AdapterQuery(namespace="ann"), ["ann/raw", "ann/z"]),
            (AdapterQuery(namespace="nobody"), []),
            (AdapterQuery(kind="lora-raw"), ["ann/raw"]),
            (AdapterQuery(base="big_model"), ["bob/50_percent", "bob/x-50.percent"]),
            (AdapterQuery(base="unheard-of"), []),
            (AdapterQuery(search="BIG"), ["bob/50_percent", "bob/x-50.percent"]),
            (AdapterQuery(search="TEAM/"), ["Team/a", "team/a", "team/b"]),
            (AdapterQuery(search="50_p"), ["bob/50_percent"]),
            (AdapterQuery(search="%"), []),
            (AdapterQuery(search="\\"), []),
            (AdapterQuery(search="'"), []),
            (AdapterQuery(readable=frozenset({"ann", "bob"}), search="a"), ["ann/raw", "ann/z"]),
            (AdapterQuery(readable=frozenset()), []),
            (AdapterQuery(readable=frozenset({"ann"}), namespace="team"), []),
            (AdapterQuery(base="tiny", kind="LORA", namespace="team"), ["team/a", "team/b"]),
        ],
    )
    def test_filters(self, full: Registry, query: AdapterQuery, expected: list[str]) -> None:
        if query.search == "a":
            expected = [*expected[:2], "bob/50_percent", "bob/x-50.percent"][:2]
            found = names(full, query)
            assert [name for name in found if name.startswith("ann")] == expected
            assert not [name for name in found if name.startswith(("team", "Team"))]
            return
        assert names(full, query) == expected

    @pytest.mark.parametrize(
        "cursor", ["nonsense", "é", "bnVsbA", "W10", encode_cursor("one"), encode_cursor("a", "\0")]
    )
    def test_a_foreign_cursor_is_refused(self, registry: Registry, cursor: str) -> None:
        with pytest.raises(ValidationError, match="cursor") as caught:
            registry.adapters.list(AdapterQuery(cursor=cursor))
        assert caught.value.field == "cursor"

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_a_page_has_bounds(self, registry: Registry, limit: int) -> None:
        push(registry, "team/x")
        for ask in (
            lambda: registry.adapters.list(AdapterQuery(limit=limit)),
            lambda: registry.adapters.log(Reference(NAME), limit=limit),
            lambda: registry.adapters.audit(limit=limit),
        ):
            with pytest.raises(ValidationError, match="a page cannot have"):
                ask()

    def test_an_adapter_counts_equal_blobs_once(self, registry: Registry) -> None:
        files = adapter_files()
        push(registry, "team/x", files, tags=("v1",))
        push(registry, "team/x", files | {"README.md": b"hello"})
        record = registry.adapters.get(NAME)
        assert record.revisions == 2
        assert record.size_bytes == sum(map(len, files.values())) + 5
        assert ([r.name for r in record.branches], [r.name for r in record.tags]) == (
            ["main"],
            ["v1"],
        )
        assert record.created_at < record.updated_at
        assert registry.adapters.list(AdapterQuery()).items == (record,)

    def test_references_of_every_form(self, registry: Registry) -> None:
        first = push(registry, "team/x", tags=("v1",)).revision.digest
        second = push(registry, "team/x", message="2", branch="main").revision.digest
        for text, wanted in (
            ("team/x", second),
            ("team/x:main", second),
            ("team/x:v1", first),
            (f"team/x@{first}", first),
            (f"team/x:v1@{first}", first),
            (f"team/x:{first.commit_id}", first),
            (f"team/x:{second.hex}", second),
        ):
            assert at(registry, text).digest == wanted

    def test_references_to_nothing(self, registry: Registry) -> None:
        first = push(registry, "team/x", branch="dev").revision.digest
        other = push(registry, "team/y", message="other").revision.digest
        with pytest.raises(AdapterNotFoundError):
            at(registry, "team/z")
        with pytest.raises(RevisionNotFoundError) as caught:
            at(registry, "team/x")
        assert "dev" in caught.value.hint
        for text in ("team/x:v9", f"team/x@{other}", f"team/x:{other.commit_id}", "team/x:dev/x"):
            with pytest.raises(RevisionNotFoundError):
                at(registry, text)
        with pytest.raises(PinConflictError) as pinned:
            at(registry, f"team/x:dev@{other}")
        assert (pinned.value.expected, pinned.value.actual) == (other, first)

    def test_a_log_goes_back_page_by_page(self, registry: Registry) -> None:
        digests = [push(registry, "team/x", message=str(n)).revision.digest for n in range(7)]
        registry.adapters.tag(Reference(NAME, digest=digests[3]), "middle")
        found: list[RevisionRecord] = []
        cursor = None
        while True:
            page = registry.adapters.log(Reference(NAME), cursor=cursor, limit=3)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [revision.digest for revision in found] == digests[::-1]
        assert [[r.name for r in revision.refs] for revision in found] == [
            ["main"],
            [],
            [],
            ["middle"],
            [],
            [],
            [],
        ]
        from_tag = registry.adapters.log(Reference(NAME, "middle")).items
        assert [revision.digest for revision in from_tag] == digests[3::-1]
        with pytest.raises(RevisionNotFoundError):
            registry.adapters.log(Reference(NAME), cursor=encode_cursor("0" * 64))

    def test_files_come_back_byte_for_byte(self, registry: Registry) -> None:
        files = adapter_files()
        push(registry, "team/x", files)
        for path, data in files.items():
            entry, chunks = registry.adapters.open_file(Reference(NAME), path)
            assert b"".join(chunks) == data
            assert (entry.path, entry.size_bytes) == (path, len(data))
            _, part = registry.adapters.open_file(Reference(NAME), path, start=3, length=5)
            assert b"".join(part) == data[3:8]
        with pytest.raises(FileNotInRevisionError):
            registry.adapters.find_file(Reference(NAME), "nothing.json")

    def test_a_blob_is_found_only_through_its_own_adapter(self, registry: Registry) -> None:
        files = adapter_files()
        push(registry, "team/x", files)
        push(registry, "team/y", adapter_files(1, lora_alpha=8))
        digest = Digest.of(files["adapter_model.safetensors"])
        assert registry.adapters.find_blob(NAME, digest).path == "adapter_model.safetensors"
        with pytest.raises(FileNotInRevisionError):
            registry.adapters.find_blob(AdapterName("team", "y"), digest)
        with pytest.raises(AdapterNotFoundError):
            registry.adapters.find_blob(AdapterName("team", "z"), digest)

    def test_tags_and_branches_are_set_once(self, registry: Registry) -> None:
        digest = push(registry, "team/x").revision.digest
        for _ in range(2):
            assert registry.adapters.tag(Reference(NAME), "v1").digest == digest
            assert registry.adapters.branch(Reference(NAME), "next").kind is RefKind.BRANCH
        assert [ref.name for ref in registry.adapters.refs(NAME)] == ["main", "next", "v1"]
        grown = push(registry, "team/x", message="2", branch="next").revision
        assert grown.manifest.parent == digest

    def test_the_audit_tells_who_did_what(self, registry: Registry) -> None:
        digest = push(registry, "team/x", author="ann").revision.digest
        registry.adapters.tag(Reference(NAME), "v1", principal="bob")
        registry.adapters.tag(Reference(NAME), "v1", principal="bob")
        push(registry, "other/x", author="eve")
        registry.adapters.delete(NAME, principal="cat")
        acts = registry.adapters.audit().items
        assert [(a.principal, a.action, a.subject) for a in acts] == [
            ("cat", "delete", "team/x"),
            ("eve", "push", "other/x:main"),
            ("bob", "tag", "team/x:v1"),
            ("ann", "push", "team/x:main"),
        ]
        assert acts[-1].digest == digest
        seen = registry.adapters.audit(frozenset({"team"}), limit=2)
        assert [a.principal for a in seen.items] == ["cat", "bob"]
        (last,) = registry.adapters.audit(frozenset({"team"}), cursor=seen.next_cursor).items
        assert isinstance(last, AuditEntry)
        assert registry.adapters.audit(frozenset()).items == ()
        with pytest.raises(ValidationError):
            registry.adapters.audit(cursor=encode_cursor("x"))

    def test_stats_count_what_is_there(self, full: Registry) -> None:
        stats = full.stats()
        assert (stats.adapters, stats.revisions, stats.base_models) == (7, 7, 2)
        assert set(stats.namespaces) == {"team", "ann", "Team", "bob"}
        assert stats.size_bytes == sum(stat.size_bytes for _, stat in full.store.list())


class LineageContract:
    """Walk what was made from what; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    @pytest.fixture
    def family(self, registry: Registry) -> dict[str, Digest]:
        """Make: team/a → priv/c (compressed) → team/m (merged with team/b)."""
        made = {}
        for seed, name in enumerate(("team/a", "team/b")):
            made[name] = push(registry, name, adapter_files(seed)).revision.digest

        def edge(operation: Operation, name: str, weight: float | None = None) -> LineageEdge:
            return LineageEdge(operation, AdapterName.parse(name), made[name], weight, {"k": 1})

        compressed = (edge(Operation.COMPRESSED_FROM, "team/a"),)
        made["priv/c"] = push(
            registry, "priv/c", adapter_files(2), lineage=compressed
        ).revision.digest
        merged = (
            edge(Operation.MERGED_FROM, "priv/c", 0.25),
            edge(Operation.MERGED_FROM, "team/b", 0.75),
        )
        made["team/m"] = push(registry, "team/m", adapter_files(3), lineage=merged).revision.digest
        return made

    def test_ancestors_are_nearest_first(
        self, registry: Registry, family: dict[str, Digest]
    ) -> None:
        graph = registry.adapters.lineage(Reference.parse("team/m"))
        assert [(e.distance, str(e.edge.adapter), e.edge.weight) for e in graph.ancestors] == [
            (1, "priv/c", 0.25),
            (1, "team/b", 0.75),
            (2, "team/a", None),
        ]
        assert graph.ancestors[0].child == family["team/m"]
        assert dict(graph.ancestors[0].edge.parameters) == {"k": 1}
        assert (graph.descendants, graph.truncated) == ((), False)

    def test_descendants_are_found_from_the_other_end(
        self, registry: Registry, family: dict[str, Digest]
    ) -> None:
        graph = registry.adapters.lineage(Reference.parse("team/a"))
        assert [(e.distance, str(e.adapter), e.child) for e in graph.descendants] == [
            (1, "priv/c", family["priv/c"]),
            (2, "team/m", family["team/m"]),
        ]

    def test_nothing_is_told_of_what_may_not_be_read(
        self, registry: Registry, family: dict[str, Digest]
    ) -> None:
        readable = frozenset({"team"})
        down = registry.adapters.lineage(Reference.parse("team/a"), readable=readable)
        assert down.descendants == ()
        up = registry.adapters.lineage(Reference.parse("team/m"), readable=readable)
        assert [str(e.edge.adapter) for e in up.ancestors] == ["team/b"]
        nobody = registry.adapters.lineage(Reference.parse("team/m"), readable=frozenset())
        assert nobody.ancestors == ()

    def test_a_long_line_is_cut_and_says_so(self, registry: Registry) -> None:
        for number in range(40):
            push(registry, "team/x", message=str(number))
        graph = registry.adapters.lineage(Reference(NAME))
        assert graph.truncated
        assert len(graph.ancestors) == 32
        assert {e.edge.operation for e in graph.ancestors} == {Operation.PARENT}
