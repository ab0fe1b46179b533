"""Name everything that can go wrong while compressing.

Every error can name file, field, expected, actual and a hint. The tree (no class knows HTTP or
exit codes; `api/problems.py` maps each leaf to both):

    CompressError
    ├── OptionError                an option is out of its range
    ├── SourceError                what came cannot be compressed
    │   ├── PickleRefusedError     the weights are a pickle: never opened
    │   ├── NonFiniteError         a tensor holds NaN or infinity
    │   └── BaseMismatchError      the base model is absent or has other shapes
    ├── DestinationError           the place to write to is taken or cannot be written
    └── TernError                  a .tern file is not acceptable
        ├── TernDamagedError       bytes are missing, changed or contradict each other
        ├── TernVersionError       a version or a method that this program does not understand
        └── TernTooLargeError      it would decode to more than the caller allows
"""

from __future__ import annotations


class CompressError(Exception):
    """Be the root of every error that this room raises.

    Attributes:
        message: what happened, in one sentence.
        file: the file concerned, or an empty string.
        field: the option, tensor or part of the file concerned, or an empty string.
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

    def __str__(self) -> str:
        """Say where, what was expected, what came and what to do, in one line."""
        where = " ".join(part for part in (self.file, self.field) if part)
        text = f"{where}: {self.message}" if where else self.message
        if self.expected:
            text += f" (expected {self.expected}, got {self.actual or 'nothing'})"
        return f"{text}; {self.hint}" if self.hint else text


class OptionError(CompressError):
    """Say that an option of the method is out of its range."""


class SourceError(CompressError):
    """Say that the weights or their config cannot be compressed as they are."""


class PickleRefusedError(SourceError):
    """Say that the weights are a pickle, which is never opened."""


class NonFiniteError(SourceError):
    """Say which tensor holds NaN or infinity."""


class BaseMismatchError(SourceError):
    """Say that the base model is absent or is not the one that the weights belong to."""


class DestinationError(CompressError):
    """Say that the place to write to is taken or cannot be written."""


class TernError(CompressError):
    """Say that a `.tern` file is not acceptable."""


class TernDamagedError(TernError):
    """Say that bytes of a `.tern` file are missing, changed or contradict each other."""


class TernVersionError(TernError):
    """Say which version or method was met and which ones are understood."""


class TernTooLargeError(TernError):
    """Say that a `.tern` file would decode to more than the caller allows."""
