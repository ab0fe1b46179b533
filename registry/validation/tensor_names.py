"""Say which tensor names are safe to keep, print and use as file names.

Tools write one file per tensor and print names into logs: a name is checked when a header is
read. PEFT's own names need only letters, digits, dots, underscores and hyphens; other trainers use
`<s1>` or `unet:0:down`, which are accepted for raw LoRA files alone.
"""

from __future__ import annotations

import re

_STRICT = re.compile(r"[A-Za-z0-9_.\-]+")
_WIDE = re.compile(r"[A-Za-z0-9_.\-<>:/|()\[\]+=,@*#~ ]+")


def check_tensor_name(name: str, *, max_chars: int, strict: bool = False) -> str:
    """Return what is wrong with a tensor's name, or an empty string.

    Args:
        name: the key in the header.
        max_chars: how long it may be.
        strict: allow only what PEFT itself writes.
    """
    if not name or len(name) > max_chars:
        return f"has a name of {len(name)} characters (expected 1 to {max_chars})"
    if not (_STRICT if strict else _WIDE).fullmatch(name):
        return "has a name with characters outside the allowed set"
    if name.startswith("/") or name != name.strip(" "):
        return "has a name that starts with '/' or ends in spaces"
    if ".." in name:
        return "has a name that contains '..'"
    return ""
