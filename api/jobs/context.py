"""Give a job what it works with: the hub as who asked for it, progress, a log, a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from api.jobs.pulse import Pulse
from api.remote.progress import Advance
from api.settings import HubSettings
from registry.jobs.values import Job, JobProgress
from registry.service import Registry
from registry.tokens import Principal

if TYPE_CHECKING:
    from api.client import HubClient


@dataclass(frozen=True, slots=True)
class JobContext:
    """Be the surroundings of one attempt.

    Attributes:
        settings: the hub's.
        registry: what the hub keeps.
        job: as it was claimed.
        pulse: what tells the queue how far it is.
        folder: a folder of its own, gone when the attempt ends.
    """

    settings: HubSettings
    registry: Registry
    job: Job
    pulse: Pulse
    folder: Path

    @property
    def principal(self) -> Principal:
        """Return who acts: whoever asked for the job, within this attempt."""
        job = self.job
        return Principal(job.asked_by, job.grants, f"job-{job.id}", job.lease)

    @property
    def cache_dir(self) -> Path:
        """Return where partial downloads wait."""
        return self.folder / "cache"

    @contextmanager
    def client(self) -> Iterator[HubClient]:
        """Give a client of the hub that acts as whoever asked for the job."""
        from api.jobs.inner_hub import inner_hub  # noqa: PLC0415 - most of a job's start is this

        with inner_hub(self.settings, self.registry, self.principal) as client:
            yield client

    @contextmanager
    def task(self, label: str, total_bytes: int) -> Iterator[Advance]:
        """Begin a task whose bytes are the job's progress (`api.remote.progress.Progress`)."""
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.pulse.report(JobProgress(done, total_bytes, label))

        advance(0)
        yield advance

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self.pulse.log(text)

    def checkpoint(self) -> bytes | None:
        """Return what an earlier attempt left, or None."""
        return self.registry.leases.checkpoint(self.job)

    def save_checkpoint(self, data: bytes) -> None:
        """Keep what a later attempt goes on from.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        self.registry.leases.save_checkpoint(self.job.lease, data)
