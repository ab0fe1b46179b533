"""Ask for jobs, look at them, cancel them and try them again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from registry.catalog import job_acts
from registry.catalog.database import Database
from registry.catalog.job_logs import read_log
from registry.catalog.jobs import list_jobs
from registry.catalog.values import Page
from registry.clock import Clock, time_text
from registry.jobs.values import Job, JobQuery, LogLine, NewJob


@dataclass(frozen=True, slots=True)
class Jobs:
    """Keep the jobs of one registry.

    Attributes:
        database: the catalog.
        clock: tells the time.
    """

    database: Database
    clock: Clock

    def submit(self, new: NewJob, children: Sequence[NewJob] = ()) -> tuple[Job, bool]:
        """Queue a job, or find the one that was asked for with the same key.

        Args:
            new: what is asked for.
            children: the jobs of a map, which are queued with it or not at all.

        Returns:
            the job, and whether it is new.

        Raises:
            JobKeyError: the key was used before for something else.
        """
        ids = [secrets.token_hex(8) for _ in range(1 + len(children))]
        now = self._now()
        return self.database.write(lambda c: job_acts.submit(c, new, children, ids=ids, now=now))

    def get(self, job: str) -> Job:
        """Return a job.

        Raises:
            JobNotFoundError: there is none of this id.
        """
        with self.database.read() as connection:
            return job_acts.get(connection, job)

    def list(self, query: JobQuery) -> Page[Job]:
        """Return one page of jobs, newest first.

        Raises:
            ValidationError: the cursor or the limit is wrong.
        """
        with self.database.read() as connection:
            return list_jobs(connection, query)

    def log(self, job: str, *, after: int = 0, limit: int = 1000) -> tuple[LogLine, ...]:
        """Return the last lines of a job's log behind a number, in order."""
        with self.database.read() as connection:
            return tuple(read_log(connection, job, after=after, limit=limit))

    def cancel(self, job: str, *, principal: str = "") -> Job:
        """Cancel a job, or ask that it stop if it runs; what has ended stays as it is.

        Raises:
            JobNotFoundError: there is none of this id.
        """
        now = self._now()
        return self.database.write(lambda c: job_acts.cancel(c, job, principal=principal, now=now))

    def retry(self, job: str, *, principal: str = "") -> Job:
        """Queue a job again that failed or was cancelled; it goes on from its checkpoint.

        Raises:
            JobNotFoundError: there is none of this id.
            JobStateError: it did neither fail nor was it cancelled.
        """
        now = self._now()
        return self.database.write(lambda c: job_acts.retry(c, job, principal=principal, now=now))

    def _now(self) -> str:
        return time_text(self.clock())
