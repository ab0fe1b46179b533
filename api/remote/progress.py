"""Say how far a long task is, without knowing who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

Advance: TypeAlias = Callable[[int], None]
"""Report that so many bytes more are done."""


class Progress(Protocol):
    """Be shown tasks and how they advance."""

    def task(self, label: str, total_bytes: int) -> AbstractContextManager[Advance]:
        """Begin a task; inside the context the caller reports bytes as they are done."""
        ...


class Silent:
    """Show nothing."""

    @contextmanager
    def task(self, label: str, total_bytes: int) -> Iterator[Advance]:
        """Begin a task that nobody watches."""
        del label, total_bytes
        yield _ignore


def _ignore(_bytes: int) -> None:
    return None


SILENT = Silent()


def in_bytes(advance: Advance, size_bytes: int) -> Callable[[int, int], None]:
    """Turn so much done of so much in all into bytes done of a known number."""
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        reached = size_bytes * done // max(1, total)
        advance(reached - shown)
        shown = reached

    return report
