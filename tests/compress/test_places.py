"""Check that results appear whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from compress.errors import (
    CompressError,
    DestinationError,
    SourceError,
    TernDamagedError,
    TernError,
    TernTooLargeError,
    TernVersionError,
)
from compress.places import copy_files, find_tern, new_file, new_folder, tern_files


def leftovers(folder: Path) -> list[str]:
    """List everything, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def fill_and_fail(place: AbstractContextManager[Path], name: str = "") -> None:
    """Write something and fail before the end."""
    with place as path:
        (path / name if name else path).write_text("new")
        raise RuntimeError


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "a").write_text("x")
        assert not (tmp_path / "deep" / "new").exists()
    assert leftovers(tmp_path / "deep") == ["new"]
    assert leftovers(tmp_path / "deep" / "new") == ["a"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with new_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("x")
    assert leftovers(tmp_path / "new") == ["a"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fill_and_fail(new_folder(tmp_path / "new"), "a")
    with pytest.raises(RuntimeError):
        fill_and_fail(new_file(tmp_path / "file"))
    assert leftovers(tmp_path) == []


def test_a_failure_keeps_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError):
        fill_and_fail(new_file(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "old"
    with new_file(tmp_path / "file") as path:
        path.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


def test_taken_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    for taken in ("file", "full"):
        with pytest.raises(DestinationError), new_folder(tmp_path / taken):
            pass
    with pytest.raises(DestinationError), new_file(tmp_path / "full"):
        pass
    with pytest.raises(DestinationError), new_folder(tmp_path / "file" / "below"):
        pass


def test_a_folder_that_fills_meanwhile_is_not_lost(tmp_path: Path) -> None:
    def race() -> None:
        with new_folder(tmp_path / "new") as folder:
            (folder / "a").write_text("mine")
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "b").write_text("theirs")

    with pytest.raises(DestinationError):
        race()
    assert leftovers(tmp_path / "new") == ["b"]


def test_files_are_copied_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1\r\n")
    (tmp_path / "to").mkdir()
    copy_files({"below/b.txt": tmp_path / "a.txt", "a.txt": tmp_path / "a.txt"}, tmp_path / "to")
    assert (tmp_path / "to" / "a.txt").read_bytes() == b"1\r\n"
    assert (tmp_path / "to" / "below" / "b.txt").read_bytes() == b"1\r\n"


def test_compressed_files_are_found(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        find_tern(tmp_path)
    assert tern_files(tmp_path / "absent") == []
    (tmp_path / "adapter_model.tern.safetensors").write_bytes(b"")
    assert find_tern(tmp_path).name == "adapter_model.tern.safetensors"
    (tmp_path / "other.tern").write_bytes(b"")
    assert len(tern_files(tmp_path)) == 2
    with pytest.raises(SourceError) as caught:
        find_tern(tmp_path)
    assert caught.value.actual == "2"
    assert find_tern(tmp_path / "other.tern") == tmp_path / "other.tern"


def test_errors_say_where_what_and_what_to_do() -> None:
    error = SourceError(
        "it is wrong", file="a.safetensors", field="x", expected="3", actual="4", hint="fix it"
    )
    assert str(error) == "a.safetensors x: it is wrong (expected 3, got 4); fix it"
    assert str(DestinationError("taken")) == "taken"
    assert str(SourceError("bad", expected="1")) == "bad (expected 1, got nothing)"


@pytest.mark.parametrize("leaf", [TernDamagedError, TernVersionError, TernTooLargeError])
def test_the_tree_of_errors(leaf: type[TernError]) -> None:
    assert issubclass(leaf, TernError)
    assert issubclass(leaf, CompressError)
