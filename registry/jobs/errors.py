"""Name what the job queue refuses; the whole tree is drawn in `registry/errors.py`."""

from __future__ import annotations

from registry.errors import ConflictError, NotFoundError


class JobNotFoundError(NotFoundError):
    """Say that there is no such job, or none that the caller may see."""

    def __init__(self, job: str) -> None:
        super().__init__(f"no job {job!r}", hint="see `adapters jobs list`")
        self.job = job


class JobStateError(ConflictError):
    """Say that a job is not in a state that allows what was asked.

    Attributes:
        actual: the state that it is in.
    """

    def __init__(self, job: str, *, actual: str, wanted: str) -> None:
        super().__init__(
            f"job {job} is {actual}, and cannot become {wanted}",
            hint="only failed and cancelled jobs can be tried again",
        )
        self.job = job
        self.actual = actual


class JobKeyError(ConflictError):
    """Say that an idempotency key was used before for something else."""

    def __init__(self, key: str, job: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} belongs to job {job}, which was asked for otherwise",
            hint="choose a new key for new work",
        )
        self.job = job


class LeaseLostError(ConflictError):
    """Say that an attempt is not the one that holds the job any more: it must stop at once."""

    def __init__(self, job: str, attempt: int) -> None:
        super().__init__(
            f"attempt {attempt} does not hold job {job} any more",
            hint="the job was taken from it: its lease ran out, or it was cancelled",
        )
        self.job = job
        self.attempt = attempt
