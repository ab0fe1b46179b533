"""Check the reports: derived numbers and plain JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from compress.lora import LoraModule
from compress.measure import ERASED_ERROR, Energies
from compress.reports import (
    CompressionReport,
    GroupReport,
    HeadReport,
    Inspection,
    LayerReport,
    ModuleReport,
    PartBytes,
    bounded_bits,
)
from compress.tally import module_report, tensor_report

ROW = ModuleReport("m.q", 100, 4, 2.0, 0.1, 0.2, 1.5, 0.9, 0.4, erased=False)
REPORT = CompressionReport(
    method="compeft",
    settings={"density": "0.2"},
    peft_type="LORA",
    treatment="why",
    baseline_dtype="F32",
    parameters=100,
    nonzero=21,
    exact_tensors=("head",),
    source_bytes=1000,
    lossy_source_bytes=400,
    size=PartBytes(lossy=50, exact=30, config=5),
    shannon_bytes=11.5,
    error_bound=0.8,
    delta_error=0.9,
    delta_cosine=0.4,
    vector_error=None,
    groups=(GroupReport("all", 100, 21, 0.5, 0.5),),
    layers=(LayerReport(40, 0.9),),
    heads=(HeadReport("h", 9, 90, 0.01),),
    modules=(ROW,),
    erased=(),
    warnings=("careful",),
)
INSPECTION = Inspection(
    path="x.tern",
    encoding="tern",
    peft_type="LORA",
    treatment="why",
    size=PartBytes(lossy=50, exact=30, config=5),
    parameters=100,
    exact_parameters=7,
    exact_tensors=("head",),
    nonzero=21,
    properties={"method": "compeft"},
    delta_error=None,
    delta_cosine=None,
    modules=(ROW,),
    erased=("m.q",),
    warnings=(),
)


def test_derived_numbers() -> None:
    assert REPORT.size.total == 80
    assert REPORT.ratio == 1000 / 80
    assert REPORT.lossy_ratio == 8
    assert REPORT.bits_per_param == 4
    assert INSPECTION.bits_per_param == 4


def test_rounded_heads_are_bytes_of_their_own() -> None:
    size = PartBytes(lossy=50, exact=30, config=5, heads=7)
    assert size.total == 87
    assert replace(REPORT, size=size).bits_per_param == 4


def test_bounds_leave_a_kibibyte_out() -> None:
    assert bounded_bits(1024 + 100, 400) == 2
    assert bounded_bits(1000, 400) == 0
    assert bounded_bits(5000, 0) == 0


def test_nothing_lossy_has_no_bits() -> None:
    assert replace(REPORT, parameters=0).bits_per_param == 0
    assert replace(INSPECTION, parameters=0).bits_per_param == 0


@pytest.mark.parametrize("report", [REPORT, INSPECTION])
def test_reports_are_plain_json(report: CompressionReport | Inspection) -> None:
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["size"] == {"lossy": 50, "exact": 30, "config": 5, "heads": 0}
    assert values["modules"][0]["name"] == "m.q"
    assert values["modules"][0]["erased"] is False
    assert values["bits_per_param"] == 4
    assert values["exact_tensors"] == ["head"]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_know_become_null(number: float) -> None:
    assert replace(REPORT, delta_error=number).to_json()["delta_error"] is None


def test_every_field_stands_in_the_json() -> None:
    assert set(CompressionReport.__dataclass_fields__) <= set(REPORT.to_json())
    assert set(Inspection.__dataclass_fields__) <= set(INSPECTION.to_json())


MODULE = LoraModule("m.q", "a", "b", 4, 2.0)
SIZES = {"a": 40, "b": 60}


@pytest.mark.parametrize(
    ("nonzero", "energies", "error", "erased"),
    [
        ({"a": 4, "b": 6}, Energies(4, 4, 3), math.sqrt(0.5), False),
        ({"a": 4, "b": 0}, Energies(4, 0, 0), 1.0, True),
        ({"a": 0, "b": 6}, Energies(4, 0, 0), 1.0, True),
        ({"a": 4, "b": 6}, Energies(1, 1e-9, 1e-9), 1.0, True),
        ({"a": 4, "b": 6}, Energies(1, 9, 1), math.sqrt(8), True),
        ({"a": 4, "b": 0}, Energies(0, 0, 0), None, False),
        ({"a": 4, "b": 6}, Energies(0, 3, 0), None, False),
        ({"a": 4, "b": 6}, None, None, False),
        ({"a": 4, "b": 0}, None, None, True),
    ],
)
def test_which_modules_are_lost(
    nonzero: dict[str, int], energies: Energies | None, error: float | None, erased: bool
) -> None:
    row = module_report(MODULE, SIZES, nonzero, energies)
    assert row.erased is erased
    assert row.error == (None if error is None else pytest.approx(error))
    assert row.parameters == 100
    assert row.density_a == nonzero["a"] / 40
    assert row.density_b == nonzero["b"] / 60


def test_the_limit_of_a_lost_module() -> None:
    kept = {"a": 1, "b": 1}
    just = 1 - (ERASED_ERROR - 1e-6) ** 2
    assert not module_report(MODULE, SIZES, kept, Energies(1, 0, just / 2)).erased
    over = 1 - (ERASED_ERROR + 1e-6) ** 2
    assert module_report(MODULE, SIZES, kept, Energies(1, 0, over / 2)).erased


@pytest.mark.parametrize(
    ("nonzero", "energies", "erased"),
    [
        (3, Energies(4, 4, 3), False),
        (0, Energies(4, 0, 0), True),
        (0, Energies(0, 0, 0), False),
        (0, None, False),
    ],
)
def test_which_tensors_are_lost(nonzero: int, energies: Energies | None, erased: bool) -> None:
    row = tensor_report("x", 10, nonzero, energies)
    assert row.erased is erased
    assert row.rank is None
    assert row.density_a == nonzero / 10
