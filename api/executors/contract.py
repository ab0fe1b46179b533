"""State what runs jobs: a supervisor claims them, an executor gives each a process of its own.

An executor knows leases and devices, no kinds and no database: what it starts finds both by itself.
"""

from __future__ import annotations

import time
from collections.abc import Collection
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


def end_all(executor: Executor, running: Collection[Lease], *, poll_s: float) -> list[Ended]:
    """Ask everything that an executor runs to end, and wait until it is gone.

    Args:
        executor: what runs it.
        running: the leases that it holds, as it keeps them.
        poll_s: how long to wait between two looks.
    """
    for lease in running:
        executor.stop(lease)
    found: list[Ended] = []
    while running:
        found += executor.ended()
        time.sleep(poll_s if running else 0)
    return found
