"""Print data on stdout and everything else on stderr, for people or for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import click

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Column:
    """Head one column of a table.

    Attributes:
        title: what stands above it.
        right: whether it is aligned to the right, as numbers are.
    """

    title: str
    right: bool = False


def as_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def line(text: str) -> None:
    """Print one line of data."""
    click.echo(text)


def message(text: str) -> None:
    """Tell something that is no data."""
    click.echo(text, err=True)


def warning(text: str) -> None:
    """Tell something that people should not overlook."""
    click.echo(click.style("warning: ", fg="yellow", bold=True) + _clean(text), err=True)


def alarm(text: str) -> None:
    """Tell something that people must not overlook."""
    click.echo(click.style(_clean(text), fg="red", bold=True), err=True)


def fields(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(click.style(f"{name:<{width}}", bold=True) + f"  {_clean(value)}")


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: fitted to a terminal, whole and aligned anywhere else."""
    if sys.stdout.isatty():
        _rich_table(columns, rows)
        return
    cells = [[column.title for column in columns], *([_clean(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        aligned = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(aligned).rstrip())


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    context = click.get_current_context(silent=True)
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column.title, justify="right" if column.right else "left")
    for row in rows:
        drawn.add_row(*(Text(_clean(cell)) for cell in row))
    no_color = True if context and context.color is False else None
    Console(no_color=no_color, highlight=False).print(drawn)


def size(count: float) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def count(number: int) -> str:
    """Write a number with its thousands apart."""
    return f"{number:,}"


def when(time: str) -> str:
    """Write a UTC time to the minute."""
    return time[:16].replace("T", " ")


def short(digest: str) -> str:
    """Write the part of a digest that people compare."""
    return digest.removeprefix("sha256:")[:12]


def _clean(text: str) -> str:
    """Drop what could steer a terminal: names and messages come from others."""
    return "".join(char if char.isprintable() else " " for char in text)
