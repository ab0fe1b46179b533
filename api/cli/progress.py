"""Draw progress bars on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.remote.progress import Advance


class Bars:
    """Show one bar at a time; each goes when its task ends."""

    @contextmanager
    def task(self, label: str, total_bytes: int) -> Iterator[Advance]:
        """Draw a bar while the context lasts."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(label, total=total_bytes)
            yield lambda done: progress.advance(task, done)


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Draw a bar of steps while the context lasts; each call of what it gives is one step."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
