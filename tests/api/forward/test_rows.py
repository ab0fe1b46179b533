"""Test that rows are read strictly: both kinds, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.forward.rows import (
    MAX_LINE_BYTES,
    Completion,
    Labelled,
    check_labels,
    label_names,
    read_rows,
    row_text,
)
from compress.errors import OptionError, SourceError


def _file(folder: Path, text: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_texts_with_labels_and_extra_fields(tmp_path: Path) -> None:
    path = _file(tmp_path, '{"text":"a b","label":"x","task":1}\n\n{"text":"ü","label":7}')
    assert read_rows(path) == [Labelled("a b", "x"), Labelled("ü", "7")]


def test_outputs(tmp_path: Path) -> None:
    rows = read_rows(_file(tmp_path, '{"input":"","output":"b"}\n{"input":"c","output":"d"}\n'))
    assert rows == [Completion("", "b"), Completion("c", "d")]
    assert [row_text(row) for row in rows] == ["b", "cd"]
    assert row_text(Labelled("t", "l")) == "t"


def test_labels_are_sorted_as_strings() -> None:
    rows = [Labelled("a", label) for label in ("10", "9", "10", "1")]
    assert label_names(rows) == ["1", "10", "9"]


def test_an_unknown_label_is_named() -> None:
    check_labels([Labelled("a", "x")], ["x", "y"])
    with pytest.raises(OptionError) as caught:
        check_labels([Labelled("a", "z")], ["x", "y"])
    assert (caught.value.expected, caught.value.actual) == ("x, y", "z")
    with pytest.raises(OptionError, match=r"12 in all"):
        check_labels([Labelled("a", "z")], [str(at) for at in range(12)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        "[1]",
        '"text"',
        "{",
        b"\xff\xfe",
        "[" * 100_000,
        '{"text":"a"}',
        '{"text":1,"label":"x"}',
        '{"text":"a","label":true}',
        '{"text":"a","label":1.5}',
        '{"text":"a","label":null}',
        '{"input":"a","output":""}',
        '{"input":"a","output":3}',
        '{"text":"a","label":"x"}\n{"input":"a","output":"b"}',
        '{"text":"' + "a" * MAX_LINE_BYTES + '","label":"x"}',
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read_rows(_file(tmp_path, text))
    assert caught.value.file.startswith("rows.jsonl")
    assert len(str(caught.value)) < 500


def test_the_bad_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 3"):
        read_rows(_file(tmp_path, '{"text":"a","label":"x"}\n\n{"text":"b"}\n'))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(SourceError, match="cannot be read"):
        read_rows(tmp_path)
