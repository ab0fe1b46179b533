"""Test what people see of a search."""

from __future__ import annotations

import sys

import pytest

from api.cli.search_view import search_bar, tell_search
from api.workflows.search_curve import SearchPoint, SearchResult

BEFORE = SearchPoint((0.5, 0.5), 1.25, 0.5, 1.275)
AFTER = SearchPoint((1.0, -0.125), 0.75, 0.875, 0.778)


def test_weights_loss_and_accuracy_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell_search(SearchResult((BEFORE, AFTER), 1200), ["team/good", "noise"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [
        ["adapter", "before", "weight"],
        ["team/good", "0.5000", "1.0000"],
        ["noise", "0.5000", "-0.1250"],
    ]
    assert ["rows", "1,200"] in lines
    assert ["loss", "1.2500", "→", "0.7500"] in lines
    assert ["accuracy", "50.0%", "→", "87.5%"] in lines


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with search_bar(2) as on_step:
        on_step(BEFORE)
        on_step(AFTER)
    told = capsys.readouterr()
    assert told.out == ""
    assert ("searching weights" in told.err) == terminal
