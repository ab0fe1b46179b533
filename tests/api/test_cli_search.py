"""Test how a search is asked for and what people see of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click
import pytest
from click.testing import CliRunner, Result

from api.cli.search_options import SearchAsked, search_of, search_options
from api.cli.search_view import search_bar, tell_search
from api.workflows.search_curve import SearchPoint, SearchResult
from compress.errors import OptionError

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


def test_adapters_that_do_not_help_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    tell_search(SearchResult((BEFORE, AFTER), 8), ["a", "b"])
    assert "warning" not in capsys.readouterr().err
    base = SearchPoint((0.0, 0.0), 0.5, 0.9, 0.5)
    tell_search(SearchResult((BEFORE, base), 8), ["a", "b"])
    assert "no mix of these adapters" in capsys.readouterr().err


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


@click.command()
@search_options
def command(**asked: Unpack[SearchAsked]) -> None:
    """Print the search that was asked for."""
    found = search_of(asked)
    if found is None:
        click.echo("none")
    else:
        options = found.options
        click.echo(
            f"{found.task.rows.name} {found.task.base_model.name} {options.steps} {options.seed}"
        )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_search_is_asked_for_by_its_rows(tmp_path: Path) -> None:
    rows, base = tmp_path / "rows.jsonl", tmp_path / "base"
    rows.write_text("")
    base.mkdir()
    both = ("--search", str(rows), "--base-model", str(base))
    assert run().output == "none\n"
    assert run(*both).output == "rows.jsonl base 40 0\n"
    assert run(*both, "--search-steps", "7", "--search-seed", "3").output.endswith("base 7 3\n")
    assert "needs --base-model" in run("--search", str(rows)).output
    assert (
        "--search-steps and --search-seed: for --search"
        in run("--search-steps", "7", "--search-seed", "3").output
    )
    assert isinstance(run(*both, "--search-steps", "0").exception, OptionError)
