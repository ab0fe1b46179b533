"""State what runs jobs: a supervisor claims them, an executor gives each a process of its own.

An executor knows leases and devices, no kinds and no database: what it starts finds both by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from registry.jobs.values import Lease


@dataclass(frozen=True, slots=True)
class Ended:
    """Tell that what ran an attempt is gone, with everything that it started.

    Attributes:
        lease: which attempt.
        detail: how it ended, for people.
        tail: the last lines that it wrote.
    """

    lease: Lease
    detail: str
    tail: tuple[str, ...] = ()


class Executor(Protocol):
    """Run attempts of jobs. One supervisor calls it, from one thread."""

    def room(self) -> int | None:
        """Return how many GPUs one job more could have, or None if there is room for none."""

    def start(self, lease: Lease, *, gpus: int) -> None:
        """Begin an attempt with so many GPUs of its own, and return at once.

        Raises:
            OSError: it cannot be begun.
        """

    def stop(self, lease: Lease) -> None:
        """Let an attempt end, by force after a grace time, and return at once."""

    def ended(self) -> list[Ended]:
        """Return what ended since the last call; their devices are free."""

    def close(self) -> list[Ended]:
        """End everything that runs, and return it once it is gone."""
