"""Check what the benchmark of merged experts draws, searches, runs and says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from api.forward.evaluate import score
from api.forward.models import load
from benchmarks import merge_tasks
from benchmarks.merge_tasks_plan import (
    COMPEFT,
    FULL,
    LAMBDAS,
    ORIGINAL,
    OWN,
    QUICK,
    RD,
    Job,
    Record,
    Store,
    best_gain,
    merges,
)
from benchmarks.merge_tasks_table import report, sign_test
from benchmarks.shared_encoder import Rows, SharedEncoder, read_deltas
from benchmarks.task_accuracy import BASE
from merge import METHODS

TINY = replace(QUICK, methods=("linear",), compared=("linear",), roots=("linear",), rows=Rows(8, 4))


def test_sets_are_drawn_evenly_and_always_alike() -> None:
    for size, draws in FULL.draws:
        sets = FULL.sets(size)
        assert sets == FULL.sets(size)
        assert len(set(sets)) == draws
        assert all(len(set(drawn)) == size for drawn in sets)
        times = Counter(name for drawn in sets for name in drawn)
        assert max(times.values()) <= -(-size * draws // len(FULL.experts)) + 1


def test_every_method_is_measured_on_every_set_that_it_takes() -> None:
    planned = set(merges(FULL))
    for name in set(METHODS) - {"cat"}:
        sizes = [n for n in FULL.sizes if METHODS[name].inputs[0] <= n <= METHODS[name].inputs[1]]
        assert sizes
        for size in sizes:
            assert {Job(ORIGINAL, name, drawn) for drawn in FULL.sets(size)} <= planned


@pytest.mark.parametrize("best", LAMBDAS)
@pytest.mark.parametrize("factor", [1, 8])
def test_the_best_factor_is_found(best: float, factor: int) -> None:
    tried = best_gain(lambda gain: (abs(gain - factor * best), 0.0), factor)
    assert next(iter(tried)) == factor * best
    assert len(tried) < len(LAMBDAS)


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(9, 3, 0.146), (12, 0, 0.0005), (6, 6, 1.0), (0, 0, 1.0)]
)
def test_signs(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == pytest.approx(p, abs=5e-4)


def test_a_store_goes_on(tmp_path: Path) -> None:
    done, open_one = (
        Job(ORIGINAL, "ties", ("a", "b"), ("density", 0.5)),
        Job(RD, "ties", ("a", "b")),
    )
    record = Record(done, (0.5, 0.75), (0.5, 1.0), 2.0, ((1.0, 0.5), (2.0, 0.75)))
    Store(tmp_path / "store.jsonl").add(record)
    again = Store(tmp_path / "store.jsonl")
    assert again.records == {done: record}
    assert again.missing([done, open_one, open_one]) == [open_one]


def test_an_expert_put_on_the_shared_encoder_is_the_expert(test_data: Path) -> None:
    names = ("mpqa", "sst2-r16all")
    shared = SharedEncoder(test_data, names, Rows(40, 8), torch.float32)
    bare = [shared.test(name) for name in names]
    for name in reversed(names):
        folder = test_data / "experts" / name
        shared.put(read_deltas(folder))
        expected = score(load(BASE, folder), shared.tasks[name].test)
        found = shared.test(name)
        assert found.accuracy == expected.accuracy
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert found.loss < bare[names.index(name)].loss
    shared.put({})
    assert [shared.test(name) for name in names] == bare


def test_half_of_a_delta_is_half_of_it(test_data: Path) -> None:
    shared = SharedEncoder(test_data, ("mpqa",), Rows(40, 8), torch.float32)
    deltas = read_deltas(test_data / "experts" / "mpqa")
    shared.put(deltas, 0.5)
    half = shared.test("mpqa")
    shared.put({name: delta.times(0.5) for name, delta in deltas.items()})
    assert shared.test("mpqa").loss == pytest.approx(half.loss, rel=1e-6)
    with pytest.raises(KeyError, match="elsewhere"):
        shared.put({"elsewhere": deltas[min(deltas)]})


def test_a_small_plan_gives_every_table(test_data: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.jsonl")
    setup = merge_tasks.Setup(test_data.resolve(), TINY.names, TINY.rows, tmp_path)
    merge_tasks.run(TINY, setup, store, 1)
    merged = store.records[Job(ORIGINAL, "linear", ("mpqa", "trec6"))]
    assert merged.rank == 16
    assert all(0 <= value <= 1 for value in (*merged.plain, *merged.tuned))
    chosen = store.records[Job(COMPEFT, OWN, ("mpqa",))].curve
    assert len(chosen) == 1
    again = Store(tmp_path / "store.jsonl")
    assert again.records == store.records
    page = "\n".join(report(again.records, TINY, "here"))
    assert "| linear | delta | 1/n |" in page
    assert page.count("sign test") == 6
