"""Work on jobs: claim one, tell that one lives and how far one is, and end it.

Every call names the lease that it acts under. `LeaseLostError` means that the job belongs to
somebody else by now: whoever meets it stops at once and touches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from registry.catalog import job_leases
from registry.catalog.database import Database
from registry.catalog.errors import BlobBusyError
from registry.catalog.job_logs import append_log
from registry.catalog.objects import ObjectKind, announce, confirm
from registry.clock import Clock, time_text
from registry.digest import Digest
from registry.errors import ValidationError
from registry.jobs.errors import LeaseLostError
from registry.jobs.states import JobState
from registry.jobs.values import (
    MAX_CHECKPOINT_BYTES,
    Job,
    JobFailure,
    JobProgress,
    JsonObject,
    Lease,
    canonical,
)
from registry.storage.blobs import BlobStore

EXPIRE_BATCH = 100


@dataclass(frozen=True, slots=True)
class Leases:
    """Hand out the jobs of one registry.

    Attributes:
        database: the catalog.
        store: where checkpoints are kept.
        clock: tells the time; the clocks of all workers must agree to a fraction of a lease.
    """

    database: Database
    store: BlobStore
    clock: Clock

    def claim(self, owner: str, *, lease_s: float, gpus: int = 0) -> Job | None:
        """Take the job that waits longest, or return None.

        Args:
            owner: who takes it, for people.
            lease_s: how long it is theirs without a sign of life.
            gpus: how many GPUs they have free.
        """
        with self.database.read() as connection:
            if not job_leases.has_queued(connection, gpus):
                return None
        now, until = self._times(lease_s)
        return self.database.write(
            lambda c: job_leases.claim_job(c, owner, gpus=gpus, now=now, expires_at=until)
        )

    def extend(self, lease: Lease, *, lease_s: float) -> bool:
        """Say that the worker lives; return whether the job is to stop.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        now, until = self._times(lease_s)
        return self.database.write(lambda c: job_leases.extend(c, lease, now=now, expires_at=until))

    def report(self, lease: Lease, progress: JobProgress) -> None:
        """Keep how far the job is.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        self.database.write(lambda c: job_leases.report(c, lease, progress))

    def log(self, lease: Lease, texts: Sequence[str]) -> None:
        """Append lines to the job's log.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        now = self._now()
        self.database.write(lambda c: append_log(c, lease, texts, now))

    def save_checkpoint(self, lease: Lease, data: bytes) -> Digest:
        """Keep what a later attempt goes on from, in place of what was kept before.

        Raises:
            LeaseLostError: somebody else has the job.
            ValidationError: it is too large.
            BlobBusyError: equal bytes are being collected at this moment.
            StorageError: the store failed; the checkpoint before it still holds.
        """
        if len(data) > MAX_CHECKPOINT_BYTES:
            raise ValidationError(
                "this checkpoint is too large",
                field="checkpoint",
                expected=f"at most {MAX_CHECKPOINT_BYTES} bytes",
                actual=f"{len(data)} bytes",
            )
        digest, now = Digest.of(data), self._now()
        number = self.database.write(
            lambda c: announce(c, digest, kind=ObjectKind.BLOB, size_bytes=len(data), now=now)
        )
        self.store.put_bytes(digest, data)
        kept = self.database.write(
            lambda c: job_leases.set_checkpoint(
                c, lease, digest, stored=confirm(c, number, now=now)
            )
        )
        if not kept:
            raise BlobBusyError(digest)
        return digest

    def checkpoint(self, job: Job) -> bytes | None:
        """Return what an earlier attempt of the job left, or None."""
        if job.checkpoint is None:
            return None
        return b"".join(self.store.read(job.checkpoint))

    def succeed(self, lease: Lease, outcome: JsonObject | None = None) -> None:
        """End the job well.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        text, now = canonical(outcome) if outcome is not None else None, self._now()
        self.database.write(lambda c: job_leases.succeed(c, lease, text, now))

    def fail(self, lease: Lease, failure: JobFailure) -> None:
        """End the job badly, for good; to try again would fail again.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        now = self._now()
        self.database.write(lambda c: job_leases.fail(c, lease, failure, now=now))

    def give_back(self, lease: Lease, failure: JobFailure, *, forgive: bool = False) -> JobState:
        """Let another attempt go on with the job; return what became of it.

        It is cancelled if that was asked for, and fails if it was begun too often.

        Args:
            lease: the attempt that is over.
            failure: why, should it have been the last.
            forgive: do not count the attempt, whose worker is stopped and not at fault.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        now = self._now()
        return self.database.write(
            lambda c: job_leases.give_back(c, lease, failure, now=now, forgive=forgive)
        )

    def expire(self) -> list[tuple[str, JobState]]:
        """Take jobs from workers that were silent for too long; tell what became of each."""
        now = self._now()
        with self.database.read() as connection:
            if not job_leases.has_expired(connection, now):
                return []
        return self.database.write(lambda c: job_leases.expire(c, now, limit=EXPIRE_BATCH))

    def to_stop(self, leases: Sequence[Lease]) -> list[Lease]:
        """Return those whose job is to stop, or is somebody else's by now."""
        if not leases:
            return []
        with self.database.read() as connection:
            found = job_leases.states_of(connection, leases)
        return [lease for lease, stop in found.items() if stop is not False]

    def held(self, lease: Lease) -> Job:
        """Return the job that a lease holds.

        Raises:
            LeaseLostError: somebody else has the job.
        """
        with self.database.read() as connection:
            job = job_leases.held_job(connection, lease)
        if job is None:
            raise LeaseLostError(lease.job, lease.attempt)
        return job

    def _times(self, lease_s: float) -> tuple[str, str]:
        now = self.clock()
        return time_text(now), time_text(now + timedelta(seconds=lease_s))

    def _now(self) -> str:
        return time_text(self.clock())
