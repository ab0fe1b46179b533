"""Check what is called identical, duplicate, near, and which experts make a cluster."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from merge.compressed import Relation, all_cosines, find_clusters, find_pairs, read_expert
from merge.errors import MergeOptionError
from tests.merge.compressed.libraries import compressed, write


def test_pairs_are_named_by_how_near_they_are(tmp_path: Path) -> None:
    source = write(tmp_path / "one", 1)
    paths = [
        source,
        write(tmp_path / "again", 1),
        write(tmp_path / "scaled", 1, lora_alpha=100),
        compressed(source, "rd"),
        write(tmp_path / "two", 2),
    ]
    experts = [read_expert(path) for path in paths]
    pairs = find_pairs(experts, all_cosines(experts), threshold=0.9)
    found = {(pair.first, pair.second): pair for pair in pairs}
    assert found[0, 1].relation is Relation.IDENTICAL
    assert found[0, 2].relation is Relation.DUPLICATE
    assert found[0, 3].relation is Relation.NEAR
    assert found[0, 3].same_source
    assert found[0, 1].same_source
    assert not any(4 in pair for pair in found)
    assert [pair.cosine for pair in pairs] == sorted((p.cosine for p in pairs), reverse=True)


def test_two_compressions_of_one_are_near(examples: Path, tmp_path: Path) -> None:
    near = tmp_path / "sst2"
    near.symlink_to(examples / "sst2")
    experts = [read_expert(near), read_expert(compressed(near, "rd"))]
    (pair,) = find_pairs(experts, all_cosines(experts))
    assert pair.relation is Relation.NEAR
    assert pair.same_source


def test_content_tells_what_differs(tmp_path: Path) -> None:
    source = write(tmp_path / "one", 1)
    twice = compressed(source, "compeft")
    first = read_expert(twice)
    copy = tmp_path / "copy.tern"
    copy.write_bytes(twice.read_bytes())
    assert read_expert(copy, label="other name").content() == first.content()
    assert read_expert(source).content() != first.content()


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_thresholds_are_cosines(threshold: float) -> None:
    with pytest.raises(MergeOptionError):
        find_pairs([], np.zeros((0, 0)), threshold=threshold)
    with pytest.raises(MergeOptionError):
        find_clusters(np.eye(3), least=threshold)


def test_clusters_are_numbered_by_size() -> None:
    cosines = np.full((6, 6), 0.05)
    for group in ((1, 4), (0, 2, 5)):
        cosines[np.ix_(group, group)] = 0.8
    np.fill_diagonal(cosines, 1)
    found = find_clusters(cosines)
    assert found.numbers.tolist() == [0, 1, 0, 2, 1, 0]
    assert found.members() == [[0, 2, 5], [1, 4], [3]]
    order = found.numbers[found.order].tolist()
    assert sorted(found.order.tolist()) == list(range(6))
    assert sum(a != b for a, b in pairwise(order)) == 2
    assert len(find_clusters(cosines, least=0.9).members()) == 6
    assert len(find_clusters(cosines, least=0.01).members()) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_few_experts_need_no_tree(count: int) -> None:
    found = find_clusters(np.ones((count, count)))
    assert found.members() == [[0]][:count]
    assert found.order.tolist() == list(range(count))


def test_cosines_beyond_one_are_no_distance() -> None:
    assert find_clusters(np.array([[1, 1 + 1e-12], [1 + 1e-12, 1]])).members() == [[0, 1]]
