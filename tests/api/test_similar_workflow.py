"""Rank and gather experts without a command line, and read them from a hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.client import HubClient
from api.remote.progress import Advance
from api.workflows.compress import CompressOptions, Origin, compress_and_push
from api.workflows.expert_library import hub_library
from api.workflows.push import PushOptions, push
from api.workflows.similar import SimilarOptions, compare_all, nearest, read_all
from compress import Rd
from compress.errors import CompressError
from merge.compressed import CompressedExpert, Relation, Space, read_expert
from merge.errors import IncompatibleError, MergeOptionError
from registry.digest import Digest
from registry.refs import Reference
from tests.compress.rate_distortion import made
from tests.merge.compressed.libraries import compressed, write


class Watched:
    """Remember which tasks there were and how far they came."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int]] = []
        self.done: dict[str, int] = {}

    @contextmanager
    def task(self, label: str, total_bytes: int) -> Iterator[Advance]:
        """Count what is done of a task."""
        self.tasks.append((label, total_bytes))
        self.done[label] = 0

        def advance(done: int) -> None:
            self.done[label] += done

        yield advance


def read(path: Path) -> CompressedExpert:
    """Read an expert under its file's name."""
    return read_expert(path, label=path.name)


@pytest.fixture
def experts(tmp_path: Path) -> list[CompressedExpert]:
    """Read one expert, one that is it scaled, two compressions, and another one."""
    one = write(tmp_path / "one", 1)
    paths = [
        one,
        write(tmp_path / "scaled", 1, lora_alpha=3),
        compressed(one, "rd"),
        compressed(one, "compeft"),
        write(tmp_path / "two", 2),
    ]
    return [read(path) for path in paths]


def test_neighbours_are_ranked_and_named(experts: list[CompressedExpert]) -> None:
    found = nearest(experts[0], experts[1:])
    assert found.label == "one"
    assert [n.label for n in found.neighbours] == [
        "scaled",
        "one-rd.tern",
        "one-compeft.tern",
        "two",
    ]
    cosines = [neighbour.cosine for neighbour in found.neighbours]
    assert cosines == sorted(cosines, reverse=True)
    assert found.neighbours[0].relation is Relation.DUPLICATE
    assert found.neighbours[3].relation is None
    assert [n.same_source for n in found.neighbours] == [True, True, True, False]
    assert [n.method for n in found.neighbours] == ["none", "rd", "compeft", "none"]
    assert (found.refused, found.zero) == ((), ())


def test_a_threshold_decides_who_is_near(experts: list[CompressedExpert]) -> None:
    strict = nearest(experts[0], experts[1:], options=SimilarOptions(threshold=0.99995))
    loose = nearest(experts[0], experts[1:], options=SimilarOptions(threshold=0.3))
    assert sum(n.relation is not None for n in strict.neighbours) == 1
    assert sum(n.relation is Relation.NEAR for n in loose.neighbours) == 2
    for bad in (0.0, 2.0):
        with pytest.raises(MergeOptionError):
            nearest(experts[0], experts[1:], options=SimilarOptions(threshold=bad))
        with pytest.raises(MergeOptionError):
            compare_all(experts, options=SimilarOptions(threshold=bad))


def test_ties_are_broken_by_name(experts: list[CompressedExpert], tmp_path: Path) -> None:
    one = tmp_path / "one"
    again = [read_expert(one, label=name) for name in ("b", "c", "a")]
    found = nearest(experts[0], again)
    assert [n.label for n in found.neighbours] == ["a", "b", "c"]
    assert {n.relation for n in found.neighbours} == {Relation.IDENTICAL}


def test_a_library_is_compared_and_gathered(experts: list[CompressedExpert]) -> None:
    found = compare_all(experts, clusters=True)
    assert found.cosines.shape == (5, 5)
    assert found.threshold == 0.95
    assert (found.pairs[0].first, found.pairs[0].second) == (0, 1)
    assert found.clusters is not None
    assert found.clusters.members()[0][:3] == [0, 1, 2]
    assert compare_all(experts).clusters is None
    tight = compare_all(experts, options=SimilarOptions(cut=0.99999), clusters=True)
    assert tight.clusters is not None
    assert [len(group) for group in tight.clusters.members()] == [2, 1, 1, 1]


def test_the_first_tells_the_base(experts: list[CompressedExpert], tmp_path: Path) -> None:
    other = read(write(tmp_path / "gpt", 3, base_model_name_or_path="gpt2"))
    found = compare_all([other, *experts])
    assert [expert.label for expert in found.experts] == ["gpt"]
    assert len(found.refused) == 5
    assert all("another base model" in one.reason for one in found.refused)
    near = nearest(experts[0], [other, *experts[1:]])
    assert [one.label for one in near.refused] == ["gpt"]


def test_factors_need_factors(experts: list[CompressedExpert]) -> None:
    factors = SimilarOptions(Space.FACTORS)
    with pytest.raises(IncompatibleError, match="nothing to compare"):
        nearest(experts[2], experts, options=factors)
    found = nearest(experts[0], experts[1:], options=factors)
    assert [one.label for one in found.refused] == ["one-rd.tern"]
    assert len(found.neighbours) == 3
    assert len(compare_all(experts, options=factors).experts) == 4


def test_zero_is_said(experts: list[CompressedExpert], tmp_path: Path) -> None:
    tensors = made.factors(4, modules=1, rank=2, sizes=(24, 40))
    nothing = {name: np.zeros_like(value) for name, value in tensors.items()}
    zero = read(made.save(tmp_path / "zero", nothing))
    near = nearest(experts[0], [zero, experts[4]])
    assert near.zero == ("zero",)
    assert near.neighbours[-1].cosine <= near.neighbours[0].cosine
    alone = nearest(zero, experts)
    assert {n.cosine for n in alone.neighbours} == {0.0}
    assert compare_all([*experts, zero]).zero == ("zero",)


def test_nothing_and_one_are_libraries_too(experts: list[CompressedExpert]) -> None:
    assert compare_all([], clusters=True).cosines.shape == (0, 0)
    one = compare_all(experts[:1], clusters=True)
    assert one.cosines.tolist() == [[pytest.approx(1)]]
    assert one.pairs == ()
    assert nearest(experts[0], []).neighbours == ()


def test_progress_comes_to_its_end(experts: list[CompressedExpert]) -> None:
    watched = Watched()
    compare_all(experts, progress=watched)
    nearest(experts[0], experts[1:], progress=watched)
    assert [label for label, _ in watched.tasks] == ["comparing", "comparing"]
    assert watched.done["comparing"] == watched.tasks[1][1] > 0


def test_what_is_no_lora_is_told_apart_from_what_is_damaged(tmp_path: Path) -> None:
    good = write(tmp_path / "good", 1)
    dora = write(tmp_path / "dora", 2, use_dora=True)
    found, refused = read_all([("good", good), ("dora", dora)])
    assert [expert.label for expert in found] == ["good"]
    assert [one.label for one in refused] == ["dora"]
    assert "DoRA" in refused[0].reason
    broken = compressed(good, "rd")
    broken.write_bytes(broken.read_bytes()[:-5])
    with pytest.raises(CompressError, match="good-rd"):
        read_all([("broken", broken)])


def test_a_hub_gives_all_of_a_base(client: HubClient, tmp_path: Path) -> None:
    base: dict[str, Any] = {"base_model_name_or_path": "org/library-base"}
    one = write(tmp_path / "one", 1, **base)
    (one / "README.md").write_text("not read\n" * 1000)
    pushed = push(client, one, Reference.parse("library/one"), options=PushOptions())
    push(
        client,
        write(tmp_path / "side", 2, **base),
        Reference.parse("library/side:draft"),
        options=PushOptions(),
    )
    push(
        client,
        write(tmp_path / "dora", 3, use_dora=True, **base),
        Reference.parse("library/dora"),
        options=PushOptions(),
    )
    compress_and_push(
        client,
        Origin(one, pushed.revision),
        Reference.parse("library/small"),
        options=CompressOptions(method=Rd(max_error=0.3)),
    )
    watched = Watched()
    cache = tmp_path / "cache"
    found, refused = hub_library(client, "Library_Base", cache_dir=cache, progress=watched)
    assert [expert.label for expert in found] == ["library/one", "library/small"]
    assert [expert.method for expert in found] == ["none", "rd"]
    assert found[0].source == found[1].source
    reasons = {one.label: one.reason for one in refused}
    assert "no branch main" in reasons["library/side"]
    assert "DoRA" in reasons["library/dora"]
    assert watched.done["reading experts"] == watched.tasks[0][1]
    own = Digest.parse(pushed.revision.digest)
    without, _ = hub_library(client, "library-base", cache_dir=cache, without=own)
    assert [expert.label for expert in without] == ["library/small"]
    assert nearest(found[0], without).neighbours[0].same_source


def test_a_base_that_nobody_adapted_has_no_experts(client: HubClient, tmp_path: Path) -> None:
    assert hub_library(client, "never-seen", cache_dir=tmp_path) == ([], [])
