"""Name everything that can go wrong in the registry.

The tree (no class knows HTTP or exit codes; `api/problems.py` maps each leaf to both):

    RegistryError
    ├── ValidationError            what came is wrong: file, field, expected, actual
    ├── NotFoundError              no such thing, or none that the caller may see
    ├── ConflictError              it changed, or contradicts what is there
    ├── PermissionDeniedError      the token does not reach this far
    └── StorageError               the disk, bucket or database failed
"""

from __future__ import annotations


class RegistryError(Exception):
    """Be the root of every error that the registry raises.

    Attributes:
        message: what happened, in one sentence.
        hint: what to do about it, or an empty string.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFoundError(RegistryError):
    """Say that a thing does not exist, or that the caller may not know that it does."""


class ConflictError(RegistryError):
    """Say that the state moved on or contradicts what was asked."""


class PermissionDeniedError(RegistryError):
    """Say that the caller is known but not allowed to do this."""


class StorageError(RegistryError):
    """Say that a disk, bucket or database failed; the foreign error is its cause."""


class ValidationError(RegistryError):
    """Say what in the input was wrong.

    Attributes:
        file: the file concerned, or an empty string.
        field: the field, tensor or module concerned, or an empty string.
        expected: what would have been right.
        actual: what came.
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
        super().__init__(message, hint=hint)
        self.file = file
        self.field = field
        self.expected = expected
        self.actual = actual
