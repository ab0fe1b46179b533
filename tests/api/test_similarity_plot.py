"""Draw matrices of cosines: ordered, named where names fit, always the same file."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from api.cli.similarity_plot import draw
from api.workflows.similar import Comparison, compare_all
from compress.errors import DestinationError, OptionError
from merge.compressed import Clusters, CompressedExpert, CompressedModule


def library(count: int, *, name: str = "expert") -> Comparison:
    """Compare random experts of one module, every other one alike."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(2, 1, 40))
    experts = []
    for number in range(count):
        a, b = (
            (common[side] + rng.normal(size=(1, 40)) * (0.1 if number % 2 else 5)).astype(
                np.float32
            )
            for side in (0, 1)
        )
        modules = {"q": CompressedModule(a, b, np.ones(1), (1.0, 1.0))}
        experts.append(CompressedExpert(f"{name} {number}", "none", None, "", modules))
    return compare_all(experts, clusters=True)


def texts(picture: Path) -> list[str]:
    """List the texts of an svg."""
    return [element.text or "" for element in ET.parse(picture).iter() if "text" in element.tag]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_written(ending: str, tmp_path: Path) -> None:
    picture = tmp_path / f"library.{ending}"
    draw(picture, library(5), title="cosine of ΔW")
    assert picture.stat().st_size > 2000


def test_the_same_library_is_the_same_file(tmp_path: Path) -> None:
    one, two = tmp_path / "1.svg", tmp_path / "2.svg"
    draw(one, library(5), title="t")
    draw(two, library(5), title="t")
    assert one.read_bytes() == two.read_bytes()


def test_experts_that_are_alike_stand_side_by_side(tmp_path: Path) -> None:
    compared = library(6)
    picture = tmp_path / "x.svg"
    draw(picture, compared, title="cosine of ΔW")
    found = texts(picture)
    assert "cosine of ΔW" in found
    shown = [text for text in found if text.startswith("expert")][:6]
    places = sorted(shown.index(f"expert {number}") for number in (1, 3, 5))
    assert places[2] - places[0] == 2


def test_names_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    picture = tmp_path / "x.svg"
    draw(picture, library(70), title="t")
    found = texts(picture)
    assert not [text for text in found if text.startswith("expert")]
    assert any("70 experts" in text for text in found)


def test_long_paths_show_their_end_and_no_mathematics(tmp_path: Path) -> None:
    picture = tmp_path / "x.svg"
    draw(picture, library(3, name="/a/long/path/that/nobody/reads/end $x$"), title="t")
    assert "end $x$ 0" in texts(picture)


def test_without_clusters_the_order_stays(tmp_path: Path) -> None:
    compared = library(3)
    plain = Comparison(compared.experts, compared.cosines, compared.threshold, (), None, (), ())
    picture = tmp_path / "x.svg"
    draw(picture, plain, title="t")
    shown = [text for text in texts(picture) if text.startswith("expert")]
    assert shown[:3] == ["expert 0", "expert 1", "expert 2"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(DestinationError):
        draw(tmp_path / "absent" / "x.png", library(2), title="t")


def test_matplotlib_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OptionError) as caught:
        draw(tmp_path / "x.png", library(2), title="t")
    assert "ternery[plot]" in caught.value.hint


def test_one_expert_is_a_picture_too(tmp_path: Path) -> None:
    one = library(1)
    assert isinstance(one.clusters, Clusters)
    draw(tmp_path / "x.svg", one, title="t")
    assert "expert 0" in texts(tmp_path / "x.svg")
