"""Say which paths a revision may hold, so that every client on every system can store them.

Start at `check_paths`; one path alone is `check_path`. Nothing is normalised: a path is accepted as
it is or refused with its reason.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from registry.errors import PathError
from registry.validation.reasons import Reason
from registry.validation.strict_json import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SEGMENT_BYTES = 255
_MAX_PATH_BYTES = 1024
_RESERVED = (".git", ".cache/huggingface", ".huggingface")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Directional overrides make `gnp.exe` look like `exe.png`.
_FORBIDDEN_MARKS = frozenset(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


def check_path(path: str) -> str:
    """Check one relative path with `/` between its segments, and return it.

    Raises:
        PathError: some client could not store it, or could be made to store it elsewhere.
    """
    if not path:
        raise _error(path, "is empty", Reason.PATH_EMPTY, expected="a relative path")
    _check_characters(path)
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        raise _error(path, "is absolute", Reason.PATH_ABSOLUTE, expected="a relative path")
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise _error(
            path, "is too long", Reason.PATH_LENGTH, expected=f"at most {_MAX_PATH_BYTES} bytes"
        )
    for segment in path.split("/"):
        _check_segment(path, segment)
    folded = path.casefold()
    for reserved in _RESERVED:
        if f"/{reserved}/" in f"/{folded}/":
            raise _error(
                path, f"lies in {reserved}/", Reason.PATH_RESERVED, expected="no such folder"
            )
    return path


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Check the paths of one revision, alone and against each other, and return them sorted.

    Raises:
        PathError: one is refused, or two could not stand side by side on every file system.
    """
    checked = sorted({check_path(path) for path in paths})
    seen: dict[str, str] = {}
    for path in checked:
        other = seen.setdefault(folded_path(path), path)
        if other != path:
            raise _error(
                path,
                f"collides with {printable(other)!r} where case or Unicode form is ignored",
                Reason.PATH_COLLISION,
                expected="paths that differ in more than case",
            )
    for path in checked:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if folded_path(parent) in seen:
                raise _error(
                    path,
                    f"needs a folder where {printable(parent)!r} is a file",
                    Reason.PATH_COLLISION,
                    expected="a name that is a file or a folder",
                )
    return tuple(checked)


def folded_path(path: str) -> str:
    """Return the form in which two colliding paths are equal."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)


def _check_characters(path: str) -> None:
    if "\\" in path:
        raise _error(
            path, "contains a backslash", Reason.PATH_CHARACTER, expected="'/' between names"
        )
    for char in path:
        if unicodedata.category(char) in _FORBIDDEN_CATEGORIES or char in _FORBIDDEN_MARKS:
            raise _error(
                path,
                f"contains the character U+{ord(char):04X}",
                Reason.PATH_CHARACTER,
                expected="visible characters",
            )


def _check_segment(path: str, segment: str) -> None:
    if not segment:
        raise _error(
            path, "has an empty segment", Reason.PATH_SEGMENT, expected="one '/' at a time"
        )
    if segment == "..":
        raise _error(path, "climbs with '..'", Reason.PATH_PARENT, expected="no '..'")
    if segment.endswith((".", " ")) or segment.startswith(" "):
        raise _error(
            path,
            "has a segment that is or ends in a dot, or begins or ends in a space",
            Reason.PATH_SEGMENT,
            expected="names that every file system keeps",
        )
    if len(segment.encode()) > _MAX_SEGMENT_BYTES:
        raise _error(
            path,
            "has a segment that is too long",
            Reason.PATH_LENGTH,
            expected=f"at most {_MAX_SEGMENT_BYTES} bytes",
        )


def _error(path: str, what: str, reason: Reason, *, expected: str) -> PathError:
    shown = printable(path, 200)
    return PathError(
        f"the path {shown!r} {what} (expected {expected})",
        reason=reason,
        file=shown,
        field="path",
        expected=expected,
        actual=shown,
        hint="rename the file and push again",
    )
