r"""Parse the part of Python's regular expressions that names of modules need.

Literals, `.`, `\d \w \s` and their opposites, classes, groups, alternation, `* + ? {m,n}` (lazy or
not: for a yes or no they are the same), `^` and `$`. Anything else raises `PatternError`.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TypeAlias

_ASCII = frozenset(map(chr, range(128)))
_DIGITS = frozenset(string.digits)
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_SPACE = frozenset(" \t\n\r\f\v")
_CLASSES = {
    "d": _DIGITS, "D": _ASCII - _DIGITS,
    "w": _WORD, "W": _ASCII - _WORD,
    "s": _SPACE, "S": _ASCII - _SPACE,
}  # fmt: skip
_MAX_CHARS = 512
_MAX_REPEAT = 256
_MAX_GROUPS_DEEP = 30


class PatternError(ValueError):
    """Say why a pattern is not evaluated."""


@dataclass(frozen=True, slots=True)
class Characters:
    """Match one character out of a set."""

    allowed: frozenset[str]

    @staticmethod
    def anything() -> Characters:
        """Return what `.` matches."""
        return Characters(_ASCII - {"\n"})


@dataclass(frozen=True, slots=True)
class Assertion:
    """Match nothing, but only at the start (`^`) or the end (`$`)."""

    place: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Match one part after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Match one of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Match a part from `least` to `most` times (None: without end)."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Characters | Assertion | Sequence | Alternatives | Repeat


def parse_pattern(pattern: str) -> Node:
    """Parse a whole pattern.

    Raises:
        PatternError: it is malformed, too long, or uses what is not understood.
    """
    if len(pattern) > _MAX_CHARS:
        raise PatternError(f"is longer than {_MAX_CHARS} characters")
    parser = _Parser(pattern)
    node = parser.alternatives(0)
    if parser.peek():
        raise PatternError("has an unbalanced ')'")
    return node


class _Parser:
    """Descend through one pattern, left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def peek(self) -> str:
        """Return the next character, or an empty string at the end."""
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self.peek()
        if not char:
            raise PatternError("ends too early")
        self._at += 1
        return char

    def _accept(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        if found:
            self._at += len(text)
        return found

    def alternatives(self, depth: int) -> Node:
        """Take sequences with `|` between them."""
        if depth > _MAX_GROUPS_DEEP:
            raise PatternError(f"nests groups deeper than {_MAX_GROUPS_DEEP}")
        parts = [self._sequence(depth)]
        while self._accept("|"):
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.peek() and self.peek() not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        return Sequence(tuple(parts))

    def _atom(self, depth: int) -> Node:
        char = self._take()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return Characters(self._class())
        if char == ".":
            return Characters.anything()
        if char in "^$":
            return Assertion(char)
        if char in "*+?":
            raise PatternError(f"repeats nothing with {char!r}")
        return Characters(self._escape() if char == "\\" else frozenset(char))

    def _group(self, depth: int) -> Node:
        if self._accept("?"):
            if self._accept("P<"):
                while self._take() != ">":
                    pass
            elif not self._accept(":"):
                raise PatternError("uses a look-around or a flag, which is not understood")
        node = self.alternatives(depth + 1)
        if not self._accept(")"):
            raise PatternError("has an unbalanced '('")
        return node

    def _escape(self) -> frozenset[str]:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.isalnum():
            raise PatternError(f"uses \\{char}, which is not understood")
        return frozenset(char)

    def _class(self) -> frozenset[str]:
        negated = self._accept("^")
        allowed: set[str] = set()
        first = True
        while first or self.peek() != "]":
            first = False
            char = self._take()
            if char == "\\":
                allowed |= self._escape()
            elif self.peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                allowed |= _span(char, self._take())
            else:
                allowed.add(char)
        self._take()
        return _ASCII - allowed if negated else frozenset(allowed)

    def _repeated(self, node: Node) -> Node:
        while True:
            if self._accept("*"):
                node = Repeat(node, 0, None)
            elif self._accept("+"):
                node = Repeat(node, 1, None)
            elif self._accept("?"):
                node = Repeat(node, 0, 1)
            elif self.peek() == "{":
                counts = self._counts()
                if counts is None:
                    return node
                node = Repeat(node, *counts)
            else:
                return node
            if self.peek() in ("*", "+"):
                raise PatternError("repeats a repeat, which is not understood")
            self._accept("?")

    def _counts(self) -> tuple[int, int | None] | None:
        """Take `{m}`, `{m,}`, `{,n}` or `{m,n}`; anything else is literal text and stays."""
        end = self._text.find("}", self._at)
        low, comma, high = (
            self._text[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        )
        if not (low or high) or not f"{low}{high}".isdigit() or not f"{low}{high}".isascii():
            return None
        self._at = end + 1
        least = int((low or "0")[:9])
        most = int(high[:9]) if high else (None if comma else least)
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise PatternError(f"repeats more than {_MAX_REPEAT} times or backwards")
        return least, most


def _span(low: str, high: str) -> frozenset[str]:
    if high == "\\" or ord(low) > ord(high) or ord(high) > 127:
        raise PatternError("has a range that is not understood")
    return frozenset(map(chr, range(ord(low), ord(high) + 1)))
