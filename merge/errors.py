"""Name everything that can go wrong while merging.

The tree (no class knows HTTP or exit codes; `api/problems.py` maps each leaf to both):

    MergeError
    ├── MergeOptionError           an option is out of its range
    └── IncompatibleError          these adapters cannot be merged, and why
"""

from __future__ import annotations


class MergeError(Exception):
    """Be the root of every error that this room raises.

    Attributes:
        message: what happened, in one sentence.
        file: the adapter concerned, or an empty string.
        field: the setting, tensor or module concerned, or an empty string.
        expected: what would have been right.
        actual: what came.
        hint: what to do about it, or an empty string.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        field: str = "",
        expected: str = "",
        actual: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.field = field
        self.expected = expected
        self.actual = actual
        self.hint = hint


class MergeOptionError(MergeError):
    """Say that an option of the merge is out of its range."""


class IncompatibleError(MergeError):
    """Say which setting, tensor or shape keeps these adapters apart."""
