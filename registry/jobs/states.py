"""Say which states a job has and which may follow which."""

from __future__ import annotations

from enum import StrEnum

from registry.jobs.errors import JobStateError


class JobState(StrEnum):
    """Say where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Tell whether nothing happens to it any more unless somebody asks for a retry."""
        return self in ENDED


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    # back to the queue when whoever worked on it died or was told to stop
    JobState.RUNNING: ENDED | {JobState.QUEUED},
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}


def check_move(job: str, before: JobState, after: JobState) -> JobState:
    """Return the new state if it may follow the old one.

    Raises:
        JobStateError: it may not.
    """
    if after not in NEXT[before]:
        raise JobStateError(job, actual=str(before), wanted=str(after))
    return after
