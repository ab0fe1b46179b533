"""Run `adapters similar` on local experts, on a hub, and on both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.compress.rate_distortion import made
from tests.live_hub import LiveHub
from tests.merge.compressed.libraries import compressed, write


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Write three experts, two of which are alike, and what was made of them."""
    folder = tmp_path / "library"
    one = write(folder / "one", 1)
    write(folder / "scaled", 1, lora_alpha=3)
    write(folder / "two", 2)
    compressed(one, "rd")
    compressed(one, "compeft")
    return folder


@contextmanager
def pushed(cli: CommandLine, namespace: str, sources: dict[str, Path]) -> Iterator[None]:
    """Keep experts on the hub for a while."""
    for name, path in sources.items():
        cli("push", path, f"{namespace}/{name}")
    yield
    for name in sources:
        cli("delete", f"{namespace}/{name}", "--yes")


def test_the_nearest_come_first(cli: CommandLine, library: Path) -> None:
    paths = sorted(library.iterdir())
    found = cli.json("similar", library / "one", *paths)
    assert found["reference"] == str(library / "one")
    labels = [Path(one["label"]).name for one in found["neighbours"]]
    assert labels == ["scaled", "one-rd.tern", "one-compeft.tern", "two"]
    relations = {Path(n["label"]).name: n["relation"] for n in found["neighbours"]}
    assert relations["scaled"] == "duplicate"
    assert relations["two"] is None
    assert found["neighbours"][1]["same_source"]
    assert found["compared"] == 4
    assert not found["incomparable"]
    assert not found["zero"]


def test_people_read_a_table(cli: CommandLine, library: Path) -> None:
    ran = cli("similar", library / "one", library / "scaled", library / "two", "--top", "1")
    assert ran.out.splitlines()[0].split() == ["cosine", "expert", "method"]
    assert "1.0000" in ran.out
    assert "duplicate" in ran.out
    assert "two" not in ran.out
    assert "1 of 2" in ran.err


def test_all_pairs_name_duplicates_and_clusters(cli: CommandLine, library: Path) -> None:
    names = ("one", "scaled", "two", "one-rd.tern")
    paths = [library / name for name in names]
    found = cli.json("similar", *paths, "--clusters", "--threshold", "0.9")
    assert [Path(label).name for label in found["experts"]] == list(names)
    assert len(found["cosines"]) == 4
    first = found["pairs"][0]
    assert (Path(first["first"]).name, Path(first["second"]).name) == ("one", "scaled")
    assert {pair["relation"] for pair in found["pairs"]} == {"duplicate", "near"}
    assert [len(group) for group in found["clusters"]] == [3, 1]
    ran = cli("similar", *paths, "--all-pairs", "--clusters")
    assert "cluster" in ran.out
    assert "clusters" not in cli.json("similar", *paths, "--all-pairs")
    alone = cli("similar", library / "one", library / "two", "--all-pairs")
    assert "no two reach a cosine of 0.95" in alone.err


def test_factors_are_compared_where_there_are_any(cli: CommandLine, library: Path) -> None:
    options = ("--space", "factors")
    found = cli.json("similar", library / "one", *sorted(library.iterdir()), *options)
    assert [one["label"].rpartition("/")[2] for one in found["incomparable"]] == ["one-rd.tern"]
    ran = cli("similar", library / "one-rd.tern", library / "one", *options, code=1)
    assert "keeps no factors" in ran.err


def test_a_picture_is_drawn(cli: CommandLine, library: Path, tmp_path: Path) -> None:
    picture = tmp_path / "library.svg"
    ran = cli("similar", *sorted(library.iterdir()), "--plot", picture)
    assert "drew" in ran.err
    text = picture.read_text()
    assert "one-rd.tern" in text
    assert "cosine of ΔW" in text
    assert "draws" in cli("similar", library / "one", "x", "--plot", "x.pdf", code=2).err


def test_what_cannot_be_compared_is_said(cli: CommandLine, library: Path, tmp_path: Path) -> None:
    tensors = made.factors(4, modules=1, rank=2, sizes=(24, 40))
    zero = made.save(tmp_path / "zero", {n: v * ("lora_A" in n) for n, v in tensors.items()})
    odd = [
        write(tmp_path / "gpt", 3, base_model_name_or_path="gpt2"),
        write(tmp_path / "dora", 3, use_dora=True),
        made.save(tmp_path / "wide", made.factors(1, modules=1, rank=2, sizes=(24, 48))),
    ]
    ran = cli("similar", library / "one", library / "two", zero, *odd)
    for told in ("another base model: gpt2", "DoRA", "[24, 48], not [24, 40]", "is zero"):
        assert told in ran.err
    found = cli.json("similar", library / "one", library / "two", zero, *odd, "--all-pairs")
    assert len(found["incomparable"]) == 3
    assert found["zero"] == [str(zero)]
    assert found["cosines"][2] == [0, 0, 0]
    assert "DoRA" in cli("similar", odd[1], library / "one", code=1).err


def test_a_damaged_file_is_named(cli: CommandLine, library: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tern"
    data = bytearray((library / "one-rd.tern").read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    for arguments in ((damaged, library / "one"), (library / "one", damaged)):
        ran = cli("similar", *arguments, code=1)
        assert "damaged.tern" in ran.err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in cli("similar", library / "one", empty, code=1).err
    assert "nowhere" in cli("similar", library / "one", "./nowhere", code=1).err


def test_a_threshold_is_a_cosine(cli: CommandLine, library: Path) -> None:
    for bad in ("0", "1.5"):
        sources = ("similar", library / "one", library / "two")
        assert "threshold" in cli(*sources, "--threshold", bad, code=2).err
        assert "threshold" in cli(*sources, "--clusters", "--cut", bad, code=2).err


def test_clusters_need_scipy(
    cli: CommandLine, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    ran = cli("similar", library / "one", library / "two", "--clusters", code=2)
    assert "ternery[merge]" in ran.err


def test_a_hub_is_searched_for_the_same_base(cli: CommandLine, library: Path) -> None:
    sources = {name: library / name for name in ("one", "scaled", "two")}
    small = library / "small"
    cli("compress", library / "one", "--to", small, "--max-error", "0.3")
    other = write(library / "gpt", 3, base_model_name_or_path="gpt2")
    dora = write(library / "dora", 5, use_dora=True)
    more = {"small": small, "gpt": other, "dora": dora}
    with pushed(cli, "similar", {**sources, **more}):
        found = cli.json("similar", "similar/one")
        labels = [one["label"] for one in found["neighbours"]]
        assert labels == ["similar/scaled", "similar/small", "similar/two"]
        assert [one["label"] for one in found["incomparable"]] == ["similar/dora"]
        assert found["neighbours"][1]["method"] == "rd"
        local = cli.json("similar", library / "one")
        assert {one["label"] for one in local["neighbours"]} == {*labels, "similar/one"}
        mixed = cli.json("similar", "similar/small", library / "two", "similar/one:main")
        assert [one["label"] for one in mixed["neighbours"]] == [
            "similar/one:main",
            str(library / "two"),
        ]
        everything = cli.json("similar", "similar/one", "--all-pairs")
        assert len(everything["experts"]) == 4


def test_without_a_base_others_must_be_named(
    cli: CommandLine, hub: LiveHub, tmp_path: Path
) -> None:
    path = write(tmp_path / "lost", 1, base_model_name_or_path=None)
    assert "OTHERS" in cli("similar", path, code=2).err
