"""Read JSON that a stranger wrote, in bounded time and memory.

Stricter than `json.loads`: duplicate keys, deep nesting, huge numbers, NaN, a byte order mark and
invalid UTF-8 are refused, each with its own reason. Start at `parse_json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from registry.validation.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_NOT_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^\[\]{}"]++', re.DOTALL)
_EMPTY_PAIRS = re.compile(rb"\[\]|\{\}")
_MAX_DIGITS = 20
_MAX_FLOAT_DIGITS = 400
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Bound what a document may make us build.

    Attributes:
        max_depth: levels of nesting.
        max_values: commas, hence array elements and object members; and opening brackets.
        natural_numbers: refuse fractions, exponents and negative numbers.
    """

    max_depth: int = 8
    max_values: int = 100_000
    natural_numbers: bool = False


class JsonRuleError(ValueError):
    """Say which rule a JSON document breaks; callers wrap it with the file's name."""

    def __init__(self, message: str, *, reason: Reason, field: str = "", actual: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.actual = actual


def parse_json(data: bytes, *, limits: JsonLimits | None = None) -> Json:
    """Parse one JSON document.

    Args:
        data: the whole document; its length is the caller's to bound.
        limits: what it may contain.

    Raises:
        JsonRuleError: it is not JSON, or breaks a limit.
    """
    limits = limits or JsonLimits()
    text = _decode(data)
    _check_bounds(data, limits)

    def _int(digits: str) -> int:
        return _integer(digits, limits)

    def _float(digits: str) -> float:
        return _fraction(digits, limits)

    try:
        value: Json = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise JsonRuleError(
            f"not valid JSON: {error.msg} at line {error.lineno} column {error.colno}",
            reason=Reason.JSON_SYNTAX,
            actual=printable(text[error.pos : error.pos + 40]),
        ) from error
    return value


def printable(text: str, limit: int = 80) -> str:
    """Shorten foreign text and make it safe to print in a message or a log."""
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    return ascii(shown)[1:-1]


def _decode(data: bytes) -> str:
    if data.startswith(_BYTE_ORDER_MARKS):
        raise JsonRuleError(
            "it starts with a byte order mark: save it as UTF-8 without one",
            reason=Reason.JSON_ENCODING,
            actual=data[:3].hex(" "),
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonRuleError(
            f"not UTF-8: invalid byte at offset {error.start}",
            reason=Reason.JSON_ENCODING,
            actual=data[error.start : error.start + 4].hex(" "),
        ) from error


def _check_bounds(data: bytes, limits: JsonLimits) -> None:
    if data.count(b",") > limits.max_values:
        raise JsonRuleError(
            f"more than {limits.max_values} values",
            reason=Reason.JSON_SIZE,
            actual=f"{data.count(b',')} commas",
        )
    containers = data.count(b"[") + data.count(b"{")
    if containers > limits.max_values:
        raise JsonRuleError(
            f"more than {limits.max_values} arrays and objects",
            reason=Reason.JSON_SIZE,
            actual=f"{containers} opening brackets",
        )
    brackets = _NOT_BRACKETS.sub(b"", data)
    rest = brackets
    for _ in range(limits.max_depth):
        rest = _EMPTY_PAIRS.sub(b"", rest)
        if not rest:
            return
    depth = 0
    for byte in brackets:  # too deep or unbalanced: only depth is ours to name
        depth += 1 if byte in b"[{" else -1
        if depth > limits.max_depth:
            raise JsonRuleError(
                f"nested deeper than {limits.max_depth} levels", reason=Reason.JSON_DEPTH
            )


def _unique(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonRuleError(
                    f"the key {printable(key)!r} stands twice in one object",
                    reason=Reason.JSON_DUPLICATE,
                    field=printable(key),
                )
            seen.add(key)
    return result


def _integer(digits: str, limits: JsonLimits) -> int:
    if limits.natural_numbers and digits.startswith("-"):
        raise JsonRuleError(
            "a negative number", reason=Reason.JSON_NUMBER, actual=printable(digits)
        )
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise JsonRuleError(
            f"a number of {len(digits)} digits", reason=Reason.JSON_NUMBER, actual=printable(digits)
        )
    return int(digits)


def _fraction(digits: str, limits: JsonLimits) -> float:
    value = float(digits) if len(digits) <= _MAX_FLOAT_DIGITS else float("inf")
    if limits.natural_numbers or value in (float("inf"), float("-inf")):
        raise JsonRuleError(
            "not a whole number" if limits.natural_numbers else "a number too large for a float",
            reason=Reason.JSON_NUMBER,
            actual=printable(digits),
        )
    return value


def _constant(name: str) -> NoReturn:
    raise JsonRuleError(
        f"{name} is not a JSON number", reason=Reason.JSON_NUMBER, actual=printable(name)
    )
