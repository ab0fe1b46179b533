"""Paths that some client could not store are refused, each with its reason."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import PathError
from registry.validation.file_paths import check_path, check_paths, folded_path
from registry.validation.reasons import Reason

REFUSED = {
    "": Reason.PATH_EMPTY,
    "/etc/passwd": Reason.PATH_ABSOLUTE,
    "/": Reason.PATH_ABSOLUTE,
    "C:/x": Reason.PATH_ABSOLUTE,
    "c:x": Reason.PATH_ABSOLUTE,
    "..": Reason.PATH_PARENT,
    "../x": Reason.PATH_PARENT,
    "a/../b": Reason.PATH_PARENT,
    "a/..": Reason.PATH_PARENT,
    ".": Reason.PATH_SEGMENT,
    "./a": Reason.PATH_SEGMENT,
    "a/./b": Reason.PATH_SEGMENT,
    "a//b": Reason.PATH_SEGMENT,
    "a/": Reason.PATH_SEGMENT,
    "a.": Reason.PATH_SEGMENT,
    "a./b": Reason.PATH_SEGMENT,
    "a ": Reason.PATH_SEGMENT,
    " a": Reason.PATH_SEGMENT,
    "a /b": Reason.PATH_SEGMENT,
    "...": Reason.PATH_SEGMENT,
    "a\\b": Reason.PATH_CHARACTER,
    "..\\x": Reason.PATH_CHARACTER,
    "a\0b": Reason.PATH_CHARACTER,
    "a\nb": Reason.PATH_CHARACTER,
    "a\x7fb": Reason.PATH_CHARACTER,
    "a\x85b": Reason.PATH_CHARACTER,
    "a\u2028b": Reason.PATH_CHARACTER,
    "a\u202egnp.exe": Reason.PATH_CHARACTER,
    "a\ud800": Reason.PATH_CHARACTER,
    "\ufeffa": Reason.PATH_CHARACTER,
    "a" * 256: Reason.PATH_LENGTH,
    "é" * 128: Reason.PATH_LENGTH,
    "/".join(["a" * 200] * 6): Reason.PATH_LENGTH,
    ".git/config": Reason.PATH_RESERVED,
    ".GIT/config": Reason.PATH_RESERVED,
    "a/.git/hooks/x": Reason.PATH_RESERVED,
    ".git": Reason.PATH_RESERVED,
    ".huggingface/x": Reason.PATH_RESERVED,
    ".cache/huggingface/x": Reason.PATH_RESERVED,
    "a/.cache/HuggingFace/x": Reason.PATH_RESERVED,
}
ACCEPTED = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "README.md",
    "0/adapter_config.json",
    ".gitattributes",
    ".gitignore",
    ".cache/other",
    "a..b",
    "a...b/c",
    "..a",
    "模型/权重.safetensors",
    "a b/c d.json",
    "é" * 127,
    "a" * 255,
    "xy:z",
    "-rf",
    "$(reboot)",
]


@pytest.mark.parametrize("path", REFUSED, ids=ascii)
def test_a_bad_path_is_refused_with_its_reason(path: str) -> None:
    with pytest.raises(PathError) as caught:
        check_path(path)
    assert caught.value.reason == REFUSED[path]
    assert caught.value.message.isprintable()
    assert caught.value.hint
    with pytest.raises(PathError):
        check_paths(["ok", path])


@pytest.mark.parametrize("path", ACCEPTED, ids=ascii)
def test_a_good_path_is_returned_as_it_came(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "paths",
    [
        ("README.md", "readme.md"),
        ("A/x", "a/x"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("a", "a/b"),
        ("a/b", "a/b/c/d"),
        ("A", "a/b"),
        ("x/caf\u00e9", "x/cafe\u0301/y"),
    ],
    ids=ascii,
)
def test_paths_that_cannot_stand_side_by_side_are_refused(paths: tuple[str, str]) -> None:
    for order in (paths, paths[::-1]):
        with pytest.raises(PathError) as caught:
            check_paths(order)
        assert caught.value.reason == Reason.PATH_COLLISION


@pytest.mark.parametrize(
    "paths", [(), ("a", "b"), ("a/b", "a/c"), ("a", "ab", "a.b"), ("a/b", "ab"), ("x", "x")]
)
def test_paths_that_can_are_sorted(paths: tuple[str, ...]) -> None:
    assert check_paths(paths) == tuple(sorted(set(paths)))


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab.~ /\\:*\0\n\u0301é\u202e"), max_size=12))
def test_what_is_accepted_stays_inside_on_every_system(path: str) -> None:
    try:
        check_path(path)
    except PathError:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        pure = kind(path)
        assert not pure.is_absolute()
        assert ".." not in pure.parts
    assert "/".join(PurePosixPath(path).parts) == path


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12))
def test_folding_is_stable_and_ignores_form_and_case(path: str) -> None:
    folded = folded_path(path)
    assert folded_path(folded) == folded
    assert folded_path(unicodedata.normalize("NFD", path)) == folded
