"""Check the coding of names and small integers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import TernDamagedError
from compress.names import ByteReader, ByteWriter, read_names, table_order, write_names


def encoded(names: list[str]) -> bytes:
    """Write names in table order."""
    out = ByteWriter()
    write_names(out, table_order(names))
    return bytes(out.data)


def decoded(data: bytes, count: int) -> list[str]:
    """Read names and refuse anything left over."""
    source = ByteReader(data)
    names = read_names(source, count)
    source.finish()
    return names


CASES = [
    [],
    ["a"],
    ["a", "b", "c"],
    ["layer.0", "layer.1", "layer.10", "layer.2"],
    ["layer.00", "layer.0", "layer.01"],
    ["0", "1", "00", "1.1", "1.2"],
    ["x1y2z3", "x1y2z4", "x9y2z3"],
    ["<s1>", "<s2>", "unet:0:down", "unet:0:up", "unet:143:down"],
    ["999999999", "1000000000", "123456789012345678901234567890"],
    ["é.0", "é.1", "日本.5", "日本.٣"],
    [f"down.{i}.attn.{j}.to_{k}" for i in range(4) for j in range(3) for k in "kqv"],
]


@pytest.mark.parametrize("names", CASES, ids=range(len(CASES)))
def test_names_round_trip(names: list[str]) -> None:
    assert decoded(encoded(names), len(names)) == table_order(names)
    assert sorted(decoded(encoded(names), len(names))) == sorted(names)


@settings(deadline=None, max_examples=100)
@given(
    st.sets(
        st.text("ab.01239_:é", min_size=1, max_size=12)
        | st.from_regex(r"[a-z]{1,3}\.[0-9]{1,12}\.[ab]", fullmatch=True),
        max_size=20,
    )
)
def test_any_names_round_trip(names: set[str]) -> None:
    assert set(decoded(encoded(list(names)), len(names))) == names


def test_many_similar_names_take_few_bytes() -> None:
    names = [f"model.layers.{i}.q_proj.lora_{f}.weight" for i in range(100) for f in "AB"]
    assert len(encoded(names)) < 2 * 100 + 100


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63 - 1])
def test_numbers_round_trip(value: int) -> None:
    out = ByteWriter()
    out.number(value)
    assert ByteReader(bytes(out.data)).number() == value


def test_a_number_without_end_is_refused() -> None:
    with pytest.raises(TernDamagedError):
        ByteReader(b"\xff" * 20).number()


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x05ab"])
def test_cut_data_is_refused(data: bytes) -> None:
    with pytest.raises(TernDamagedError):
        ByteReader(data).block()


def test_a_list_longer_than_its_data_is_refused_before_it_is_made() -> None:
    with pytest.raises(TernDamagedError, match="longer"):
        ByteReader(b"abc").numbers(1 << 60)


def test_left_over_bytes_are_refused() -> None:
    source = ByteReader(b"ab")
    source.fixed(1)
    with pytest.raises(TernDamagedError, match="left over"):
        source.finish()


def lie(template: bytes, sizes: list[int], columns: list[int]) -> bytes:
    """Write a table of names by hand."""
    out = ByteWriter()
    out.block(template)
    out.numbers(sizes)
    out.numbers(columns)
    return bytes(out.data)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (lie(b"a\nb", [1, 1], []), 3),
        (lie(b"a", [2], []), 2),
        (lie(b"a", [1 << 50], []), 1 << 50),
        (lie(b"a\0", [2], [0, 0]), 2),
        (lie(b"a\0", [2], [4]), 2),
        (lie(b"\xff\xfe", [1], []), 1),
        (lie(b"a" * 2000, [1], []), 1),
        (lie(b"a" * 1000 + b"\0", [100_000], [2] * 100_000), 100_000),
    ],
    ids=["sum", "repeat", "bomb", "same", "short", "utf8", "long", "memory"],
)
def test_lies_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(TernDamagedError):
        decoded(data, count)
