"""Know one base model under the many ways in which configurations spell it.

`google/gemma-3-270m-it`, `gemma3-270m-it` and a Windows path that ends in the name are the same
base: only the last part of a path counts, in any case, without `-`, `_`, `.` and spaces.
"""

from __future__ import annotations

import re
import unicodedata

from registry.errors import ValidationError

MAX_NAME = 256
MAX_TEXT = 4096
_SEPARATORS = re.compile(r"[/\\]+")
_IGNORED = str.maketrans("", "", "-_. ")
_HUB_NAME = re.compile(r"[^/\\.~][^/\\:]*/[^/\\:]+")


def base_key_of(text: str) -> str:
    """Return the normalised key of a base model's name.

    Raises:
        ValidationError: nothing is left of it, or it is too long or not printable.
    """
    key = unicodedata.normalize("NFC", _last_part(text).casefold()).translate(_IGNORED)
    if not key:
        raise _bad(text, "a name with at least one letter or digit")
    return key


def base_key_if_named(text: str | None) -> str | None:
    """Return the normalised key, or None where there is no name that could have one."""
    try:
        return base_key_of(text) if text is not None else None
    except ValidationError:
        return None


def base_title(text: str) -> str:
    """Return how to call a base model that was first met under this spelling.

    A `namespace/name` stays; of a path, which may tell what is private, only the end is kept.

    Raises:
        ValidationError: nothing is left of it, or it is too long or not printable.
    """
    base_key_of(text)
    text = text.strip()
    return text if _HUB_NAME.fullmatch(text) and len(text) <= MAX_NAME else _last_part(text)


def _last_part(text: str) -> str:
    if len(text) > MAX_TEXT or not text.isprintable():
        raise _bad(text, f"at most {MAX_TEXT} printable characters")
    part = _SEPARATORS.split(text.strip().rstrip("/\\"))[-1].strip()
    if len(part) > MAX_NAME:
        raise _bad(text, f"at most {MAX_NAME} characters after the last / or \\")
    return part


def _bad(text: str, expected: str) -> ValidationError:
    return ValidationError(
        f"{text[:120]!r} cannot name a base model",
        field="base_model",
        expected=expected,
        actual=text[:120],
        hint="name the base model with --base",
    )
