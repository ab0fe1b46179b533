"""Show a search of weights: a bar while it goes on, then what it found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api.cli import output
from api.cli.output import Column

if TYPE_CHECKING:
    from api.workflows.search_curve import SearchPoint, SearchResult
    from api.workflows.weight_search import OnStep

_COLUMNS = (Column("adapter"), Column("before", right=True), Column("weight", right=True))


@contextmanager
def search_bar(steps: int) -> Iterator[OnStep]:
    """Give what is told of every step: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from api.cli.progress import counted

    with counted("searching weights", steps) as advance:
        yield lambda _: advance()


def tell_search(result: SearchResult, names: Sequence[str]) -> None:
    """Print the weights that were found, and what they do on the rows.

    Args:
        result: what came of the search.
        names: of the inputs, in their order.
    """
    before, after = result.before.weights, result.after.weights
    if not any(after):
        output.warning("no mix of these adapters does better on the rows than none of them")
    output.table(
        _COLUMNS,
        [
            (name, f"{old:.4f}", f"{new:.4f}")
            for name, old, new in zip(names, before, after, strict=True)
        ],
    )
    output.line("")
    output.fields(
        [
            ("rows", output.count(result.rows)),
            ("steps", output.count(len(result.curve))),
            ("loss", _change(result, lambda point: f"{point.loss:.4f}")),
            ("accuracy", _change(result, lambda point: f"{point.accuracy:.1%}")),
        ]
    )


def _change(result: SearchResult, shown: Callable[[SearchPoint], str]) -> str:
    return f"{shown(result.before)} → {shown(result.after)}"
