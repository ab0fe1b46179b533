"""Name what is wrong with a job that is asked for.

The branch of the tree in `api/errors.py`:

    ApiError
    └── JobRequestError            a job that is asked for is not acceptable
        └── UnknownJobKindError        there is no such kind of job
"""

from __future__ import annotations

from collections.abc import Iterable

from api.errors import ApiError


class JobRequestError(ApiError):
    """Say what of a job's parameters is not acceptable.

    Attributes:
        field: the parameter concerned.
        expected: what would have been right.
        actual: what came.
    """

    def __init__(self, message: str, *, field: str, expected: str = "", actual: str = "") -> None:
        super().__init__(message, hint="see `adapters jobs submit --help` for what each kind takes")
        self.field = field
        self.expected = expected
        self.actual = actual


class UnknownJobKindError(JobRequestError):
    """Say that there is no such kind of job, and which there are."""

    def __init__(self, kind: str, there_are: Iterable[str]) -> None:
        kinds = ", ".join(there_are)
        super().__init__(
            f"there is no kind of job {kind[:80]!r}; there are {kinds}",
            field="kind",
            expected=f"one of {kinds}",
            actual=kind[:80],
        )
