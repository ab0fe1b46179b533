"""Check what people and programs read of a comparison: cosines, relations, and what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from api.cli.session import Session
from api.cli.similar_report import tell_all, tell_nearest
from api.workflows.similar import Comparison, Nearest, Neighbour
from merge.compressed import Clusters, CompressedExpert, Pair, Relation
from merge.compressed.comparable import Refused

ODD = Refused("team/odd", "another base model: gpt2")


def session(*, as_json: bool = False) -> Session:
    """Give the common options."""
    return Session(as_json=as_json, endpoint=None, token_file=None)


def some_neighbours() -> Nearest:
    """Make three neighbours of an expert."""
    return Nearest(
        "team/one",
        (
            Neighbour("team/same", "none", 1.0, Relation.IDENTICAL, same_source=True),
            Neighbour("team/near", "rd", 0.97123456789, Relation.NEAR, same_source=True),
            Neighbour("team/far", "compeft", -0.25, None, same_source=False),
        ),
        (ODD,),
        ("team/zero",),
    )


def some_pairs(*, clusters: bool) -> Comparison:
    """Make a library of three, two of which are duplicates."""
    experts = tuple(CompressedExpert(name, "rd", None, "", {}) for name in ("a", "b", "c"))
    cosines = np.array([[1, 0.99995, 0.1], [0.99995, 1, 0.2], [0.1, 0.2, 1]])
    pairs = (Pair(0, 1, 0.99995, Relation.DUPLICATE, same_source=False),)
    found = Clusters(np.array([0, 0, 1]), np.arange(3)) if clusters else None
    return Comparison(experts, cosines, 0.95, pairs, found, (), ())


def test_neighbours_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    tell_nearest(session(), some_neighbours(), [], top=2)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[1].split()[:3] == ["1.0000", "team/same", "none"]
    assert lines[1].endswith("identical, made from the same weights")
    assert lines[2].split()[:4] == ["0.9712", "team/near", "rd", "near,"]
    assert len(lines) == 3
    for told in ("2 of 3", "team/zero is zero", "team/odd cannot be compared: another base"):
        assert told in shown.err


def test_neighbours_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    own = Refused("team/dora", "DoRA")
    tell_nearest(session(as_json=True), some_neighbours(), [own], top=10)
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == "team/one"
    assert found["neighbours"][1] == {
        "label": "team/near",
        "cosine": 0.9712346,
        "relation": "near",
        "same_source": True,
        "method": "rd",
    }
    assert found["neighbours"][2]["relation"] is None
    assert [one["label"] for one in found["incomparable"]] == ["team/dora", "team/odd"]
    assert (found["compared"], found["zero"]) == (3, ["team/zero"])


def test_nobody_beside_it_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    tell_nearest(session(), Nearest("team/one", (), (), ()), [], top=10)
    shown = capsys.readouterr()
    assert shown.out == ""


@pytest.mark.parametrize("clusters", [True, False])
def test_pairs_and_clusters_are_told(clusters: bool, capsys: pytest.CaptureFixture[str]) -> None:
    tell_all(session(), some_pairs(clusters=clusters), [ODD], top=10)
    shown = capsys.readouterr()
    assert "0.9999  a    b      duplicate" in shown.out or "1.0000  a" in shown.out
    assert ("a, b" in shown.out) is clusters
    assert "team/odd" in shown.err
    tell_all(session(as_json=True), some_pairs(clusters=clusters), [ODD], top=10)
    found = json.loads(capsys.readouterr().out)
    assert found["experts"] == ["a", "b", "c"]
    assert found["cosines"][0][1] == 0.99995
    assert found["pairs"][0]["relation"] == "duplicate"
    assert found.get("clusters") == ([["a", "b"], ["c"]] if clusters else None)
