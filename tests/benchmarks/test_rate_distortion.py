"""Check the page of the comparison: its arithmetic, its rows, and what it says of real experts."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import compress
from benchmarks import rate_distortion
from benchmarks.baselines import BASELINES, Point, read_adapter
from benchmarks.baselines.interface import Sweep
from benchmarks.baselines.low_rank import TruncatedSvd
from benchmarks.baselines.table import Row, adapter_table, aims, bits_for_error, summary_table
from compress import Compeft, Scope
from tests.benchmarks.conftest import MakeFolder

CURVE = [(2.0, 0.1), (0.5, 0.4), (1.0, 0.2)]
SVD = Sweep("svd", lambda _: (TruncatedSvd(1), TruncatedSvd(2)))


def row(label: str, bits: float, error: float, *, bound: float = 0.1, adapter: str = "x") -> Row:
    """Make a row of a recipe that is the first word of the label."""
    return Row(adapter, label.split(maxsplit=1)[0], Point(label, bits, error, 1, "", 2.0), bound)


@pytest.mark.parametrize(
    ("error", "bits"),
    [(0.4, 0.5), (0.9, 0.5), (0.2, 1.0), (0.1, 2.0), (math.sqrt(0.08), 0.75), (0.09, None)],
)
def test_bits_for_an_error(error: float, bits: float | None) -> None:
    assert bits_for_error(CURVE, error) == (None if bits is None else pytest.approx(bits))


def test_no_curve_reaches_nothing() -> None:
    assert bits_for_error([], 0.5) is None


def test_a_row_of_an_adapter() -> None:
    made = row("svd 1", 4.0, 0.25)
    noted = replace(made, point=replace(made.point, note="alpha 2"))
    *_, plain, with_note = adapter_table([made, noted])
    assert plain == "| svd 1 | 4.000 | 0.2500 | 0.1000 | 2.50 | 1 | 2.00 |  |"
    assert with_note.endswith("| alpha 2 |")


def test_the_summary_takes_geometric_means() -> None:
    rows = [row("svd 1", 1.0, 0.1), row("svd 1", 4.0, 0.4, adapter="y"), row("int8", 8.0, 0.2)]
    _, _, first, second = summary_table(rows)
    assert first == "| svd 1 | 2 | 2.000 | 0.2000 | 2.00 | 4.00 | 2 | 2 | 4.0 |"
    assert second.startswith("| int8 | 1 | 8.000 |")


def test_the_lines_of_a_recipe_stand_together() -> None:
    labels = ("svd 1", "int8", "svd 2", "int8")
    lines = summary_table([row(label, 1.0, 0.1) for label in labels])[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| svd 1", "| svd 2", "| int8"]


def test_the_tables_have_as_many_cells_as_columns() -> None:
    for table in (adapter_table([row("svd 1", 1.0, 0.1)]), summary_table([row("svd 1", 1.0, 0.1)])):
        assert len({line.count("|") for line in table}) == 1


def test_the_aims_need_rd() -> None:
    assert aims([row("compeft global 5%", 0.3, 0.9)]) == ["`rd` was not measured in this run."]


def test_the_aims_compare_rd_with_bound_and_compeft() -> None:
    rows = [
        row("rd 0.25", 0.25, 0.4, bound=0.4),
        row("rd 0.5", 0.5, 0.2, bound=0.1),
        row("rd 0.25", 0.25, 0.8, bound=0.2, adapter="y"),
        row("compeft global 5%", 1.0, 0.2),
        row("compeft global 5%", 1.0, 0.9, adapter="y"),
        row("compeft global 9%", 3.0, 0.01),
    ]
    lines = aims(rows)
    assert "| 0.25 bits | 2 | 2.000 | 4.000 |" in lines
    assert "| 0.5 bits | 1 | 2.000 | 2.000 |" in lines
    shares = f"{math.sqrt(0.5 * 0.25):.3f}"
    assert f"| compeft global 5% | 2 | {shares} | 0.500 |" in lines
    assert not [line for line in lines if "global 9%" in line]  # rd did not reach it


def test_identical_adapters_are_measured_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    first = make_folder()
    second = tmp_path / "second"
    shutil.copytree(first, second)
    assert list(rate_distortion.distinct([first, second])) == [first]


def test_the_page(make_folder: MakeFolder) -> None:
    page = rate_distortion.report([make_folder(name="one")], [SVD])
    assert "## one\n\n1,072 LoRA parameters, 2 modules.\n" in page
    assert page.count("| SVD fp16 rank 2 |") == 2
    assert "numpy" in page


def test_rd_is_measured_once_this_version_has_it(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(*, bits: float) -> Compeft:
        return Compeft(density=bits / 4, scope=Scope.TENSOR)

    monkeypatch.setattr(compress, "Rd", options, raising=False)
    rd = rate_distortion.methods()[0]
    points = list(rd.rows(read_adapter(make_folder())))
    assert [point.label for point in points] == [f"rd {b:g}" for b in rate_distortion.RD_BITS]
    assert points[-1].error < points[0].error


def test_without_rd_the_baselines_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(compress, "Rd", raising=False)
    assert rate_distortion.methods() == BASELINES
    names = [baseline.name for baseline in BASELINES]
    assert names == ["compeft", "stc", "bitdelta", "int8", "int4", "svd", "loraquant"]


def test_no_baseline_beats_the_bound_on_a_real_expert(examples: Path) -> None:
    folder = min(path for path in examples.iterdir() if (path / "adapter_config.json").is_file())
    quick = [baseline for baseline in BASELINES if baseline.name != "compeft"]
    rows = list(rate_distortion.measured(read_adapter(folder), quick))
    assert len(rows) > 30
    assert min(made.ratio for made in rows) > 1
