"""Mark a place in a listing, so that the next page starts behind it.

A cursor is opaque to those who pass it on: they get it from one page and hand it back for the next.
"""

from __future__ import annotations

import base64
import binascii
import json

from registry.errors import ValidationError

MAX_PAGE = 1000


def encode_cursor(*key: str) -> str:
    """Return a cursor that holds the sort key of the last item shown."""
    data = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_cursor(cursor: str, parts: int) -> tuple[str, ...]:
    """Return the sort key that a cursor holds.

    Raises:
        ValidationError: it is not a cursor of a listing with so many parts in its key.
    """
    try:
        data = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        key = json.loads(data)
    except (ValueError, binascii.Error, RecursionError):
        key = None
    whole = isinstance(key, list) and len(key) == parts
    if not whole or not all(isinstance(part, str) and part.isprintable() for part in key):
        raise ValidationError(
            f"{cursor[:80]!r} is not a cursor of this listing",
            field="cursor",
            expected="the next_cursor of the page before",
            actual=cursor[:80],
            hint="start again without a cursor",
        )
    return tuple(key)


def check_limit(limit: int) -> int:
    """Return the page size if it is allowed.

    Raises:
        ValidationError: it is not in [1, 1000].
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValidationError(
            f"a page cannot have {limit} items",
            field="limit",
            expected=f"1 to {MAX_PAGE}",
            actual=str(limit),
        )
    return limit
