"""Strict JSON refuses what plain `json.loads` lets through, in bounded time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.validation.reasons import Reason
from registry.validation.strict_json import Json, JsonLimits, JsonRuleError, parse_json, printable

REFUSED: dict[str, tuple[bytes, Reason]] = {
    "empty": (b"", Reason.JSON_SYNTAX),
    "open object": (b"{", Reason.JSON_SYNTAX),
    "closed too often": (b"{}}", Reason.JSON_SYNTAX),
    "only closing": (b"]]]]", Reason.JSON_SYNTAX),
    "crossed brackets": (b"{[}]", Reason.JSON_SYNTAX),
    "open string": (b'{"a', Reason.JSON_SYNTAX),
    "single quotes": (b"{'a': 1}", Reason.JSON_SYNTAX),
    "trailing comma": (b"[1,]", Reason.JSON_SYNTAX),
    "a comment": (b"{} // x", Reason.JSON_SYNTAX),
    "control character in a string": (b'{"a": "\n"}', Reason.JSON_SYNTAX),
    "leading zero": (b"[01]", Reason.JSON_SYNTAX),
    "UTF-8 mark": (b"\xef\xbb\xbf{}", Reason.JSON_ENCODING),
    "UTF-16 mark": (b"\xff\xfe{\0}\0", Reason.JSON_ENCODING),
    "Latin-1": (b'{"a": "\xe9"}', Reason.JSON_ENCODING),
    "overlong UTF-8": (b'{"a": "\xc0\x80"}', Reason.JSON_ENCODING),
    "NaN": (b"[NaN]", Reason.JSON_NUMBER),
    "Infinity": (b"[-Infinity]", Reason.JSON_NUMBER),
    "a float that overflows": (b"[1e999]", Reason.JSON_NUMBER),
    "21 digits": (b"[123456789012345678901]", Reason.JSON_NUMBER),
    "a thousand digits": (b"[" + b"9" * 1000 + b"]", Reason.JSON_NUMBER),
    "a thousand decimals": (b"[0." + b"9" * 1000 + b"]", Reason.JSON_NUMBER),
    "duplicate key": (b'{"a": 1, "a": 1}', Reason.JSON_DUPLICATE),
    "duplicate key inside": (b'{"x": [{"a": 1, "a": 2}]}', Reason.JSON_DUPLICATE),
    "duplicate key by escape": (b'{"a": 1, "\\u0061": 2}', Reason.JSON_DUPLICATE),
    "nine levels": (b"[" * 9 + b"]" * 9, Reason.JSON_DEPTH),
    "nine mixed levels": (b'{"a":[' * 5 + b"]}" * 5, Reason.JSON_DEPTH),
    "very many empty arrays": (b"[" + b"[]" * 100_001 + b"]", Reason.JSON_SIZE),
    "a million open brackets": (b"[" * 1_000_000, Reason.JSON_SIZE),
    "too many values": (b"[" + b"0," * 100_001 + b"0]", Reason.JSON_SIZE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_refused_with_its_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(JsonRuleError) as caught:
        parse_json(data)
    assert caught.value.reason == reason
    assert caught.value.message.isprintable()
    assert caught.value.actual.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b"[" * 8 + b"]" * 8,
        b'{"a": "[[[[[[[[[[[[[[[["}',
        b'{"a": "\\"[[[[[[[[[[[[[[[["}',
        b'{"\\\\": ["\\\\\\"]"]}',
        b"[1, -2, 3.5, 1e3, true, false, null]",
        b"[12345678901234567890]",
        '{"模型": "C:\\\\模型"}'.encode(),
    ],
)
def test_what_is_right_is_what_json_says(text: bytes) -> None:
    assert parse_json(text) == json.loads(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**19), 10**19)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.booleans())
def test_every_plain_value_survives(value: Json, indent: bool) -> None:
    text = json.dumps(value, indent=2 if indent else None, ensure_ascii=indent)
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        return
    assert parse_json(text.encode(), limits=JsonLimits(max_depth=20)) == value


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_whatever_passes_is_json(data: bytes) -> None:
    try:
        value = parse_json(data)
    except JsonRuleError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize("number", ["-1", "-0", "1.0", "1e3", "1E-2"])
def test_natural_numbers_refuse_everything_else(number: str) -> None:
    limits = JsonLimits(natural_numbers=True)
    assert parse_json(b"[0, 18446744073709551615]", limits=limits) == [0, 2**64 - 1]
    with pytest.raises(JsonRuleError) as caught:
        parse_json(f"[{number}]".encode(), limits=limits)
    assert caught.value.reason == Reason.JSON_NUMBER


def test_the_duplicate_key_is_named() -> None:
    with pytest.raises(JsonRuleError) as caught:
        parse_json(b'{"r": 8, "lora_alpha": 16, "r": 16}')
    assert caught.value.field == "r"


def test_megabytes_of_hostile_text_are_refused_quickly() -> None:
    started = time.monotonic()
    for data in (b'"' * 2_000_000, b"\\" * 2_000_000, b'{"a":' * 400_000, b'["' * 500_000):
        with pytest.raises(JsonRuleError):
            parse_json(data)
    assert time.monotonic() - started < 10


def test_printable_makes_any_text_safe_for_a_log() -> None:
    assert printable("plain") == "plain"
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable("模") == "\\u6a21"
    assert len(printable("x" * 500)) < 100
    assert printable("\u202e").isprintable()
