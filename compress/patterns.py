r"""Match PEFT's module patterns without running an uploaded regular expression.

PEFT treats a key of `rank_pattern` or `alpha_pattern` as a regular expression for the end of a
module's
name: ``(.*\.)?(key)$``. An uploaded expression can take exponential time, so only a subset is
understood: literal text, ``.``, ``\.``, ``.*``, ``\d+`` and a leading ``^`` or trailing ``$``. It
is matched in time proportional to the product of both lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PIECES = re.compile(r"\.\*|\\d\+|\\\.|\.|[A-Za-z0-9_\-/:]")
_MAX_PATTERN_CHARS = 512
_REPEATED = {".*", "\\d+"}


def is_understood(pattern: str) -> bool:
    """Say whether a pattern lies in the subset."""
    body = pattern.removeprefix("^").removesuffix("$")
    return len(pattern) <= _MAX_PATTERN_CHARS and "".join(_PIECES.findall(body)) == body


def first_match(patterns: Iterable[str], module: str) -> str | None:
    """Give the first understood pattern that fits the end of a module's name, as PEFT does."""
    for pattern in patterns:
        if is_understood(pattern) and _matches(pattern, module):
            return pattern
    return None


def _matches(pattern: str, module: str) -> bool:
    body = pattern.removeprefix("^").removesuffix("$")
    pieces = _PIECES.findall(body)
    starts = {0}
    if not pattern.startswith("^"):
        starts |= {at + 1 for at, char in enumerate(module) if char == "."}
    reached = starts
    for piece in pieces:
        reached = _advance(piece, module, reached)
    return len(module) in reached


def _advance(piece: str, module: str, reached: set[int]) -> set[int]:
    """Give the positions that can be reached by one piece from any of these."""
    if piece in _REPEATED:
        result = set(reached) if piece == ".*" else set()
        alive = False
        for at in range(len(module) + 1):
            alive = alive or at in reached
            if alive and at < len(module) and (piece == ".*" or module[at].isdigit()):
                result.add(at + 1)
            else:
                alive = False
        return result
    if piece == ".":
        return {at + 1 for at in reached if at < len(module)}
    char = piece[-1]
    return {at + 1 for at in reached if at < len(module) and module[at] == char}
