"""Files that could run are refused by name and by their first bytes."""

from __future__ import annotations

import io
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from registry.errors import RefusedFileError
from registry.validation.file_types import (
    DEFAULT_MEDIA_TYPE,
    check_file_type,
    convert_hint,
    media_type,
)
from registry.validation.reasons import Reason

BY_NAME = {
    Reason.PICKLE: [
        "adapter_model.bin",
        "x.pt",
        "x.PTH",
        "a/b.ckpt",
        "x.pkl",
        "x.pickle",
        "x.joblib",
        "x.npy",
        "x.npz",
        "optimizer.bin",
        "x.pt2",
    ],
    Reason.CODE: ["modeling.py", "x.ipynb", "run.sh", "a/b/hook.PY", "x.js", "x.pyc", "x.bat"],
    Reason.EXECUTABLE: ["x.so", "x.exe", "x.dll", "x.dylib", "x.pyd"],
    Reason.ARCHIVE: [
        "x.zip",
        "x.tar",
        "x.tar.gz",
        "x.tgz",
        "x.7z",
        "x.whl",
        "model.nemo",
        "x.h5",
        "x.keras",
    ],
}
FINE = [
    "adapter_config.json",
    "README.md",
    "x.safetensors",
    "x.tern",
    "LICENSE",
    "tokenizer.model",
    "x.binary",
]


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def gzip_tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def npy_bytes() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(2))
    return buffer.getvalue()


BY_CONTENT = {
    "pickle 2": (pickle.dumps({}, protocol=2), Reason.PICKLE),
    "pickle 4": (pickle.dumps({}, protocol=4), Reason.PICKLE),
    "pickle 5": (pickle.dumps({}, protocol=5), Reason.PICKLE),
    "numpy": (npy_bytes(), Reason.PICKLE),
    "zip, as torch.save writes": (zip_bytes(), Reason.ARCHIVE),
    "gzip": (gzip_tar_bytes(), Reason.ARCHIVE),
    "ELF": (Path(sys.executable).read_bytes()[:64], Reason.EXECUTABLE),
    "PE": (b"MZ\x90\0", Reason.EXECUTABLE),
    "script": (b"#!/bin/sh\n", Reason.CODE),
}


@pytest.mark.parametrize(("reason", "path"), [(r, p) for r, ps in BY_NAME.items() for p in ps])
def test_a_refused_name_says_why_and_what_to_do(reason: Reason, path: str) -> None:
    with pytest.raises(RefusedFileError) as caught:
        check_file_type(path)
    assert caught.value.reason == reason
    assert caught.value.file == path
    assert caught.value.hint


@pytest.mark.parametrize("name", BY_CONTENT)
def test_a_disguise_does_not_help(name: str) -> None:
    content, reason = BY_CONTENT[name]
    with pytest.raises(RefusedFileError) as caught:
        check_file_type("notes.txt", content[:1024])
    assert caught.value.reason == reason


@pytest.mark.parametrize("path", FINE)
def test_other_names_pass(path: str) -> None:
    check_file_type(path, b"{}")


@pytest.mark.parametrize(
    "start", [b"\x80\x02\0\0\0\0\0\0{", b"MZ\0\0\0\0\0\0{", b"\x1f\x8b\0\0\0\0\0\0{"]
)
def test_a_safetensors_file_may_have_any_length(start: bytes) -> None:
    check_file_type("x.safetensors", start)


def test_the_command_converts_a_real_pickle(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "it's a model.bin"
    torch.save({"w": torch.arange(6.0).reshape(2, 3).T}, path)
    command = convert_hint(str(path)).splitlines()[1]
    arguments = [sys.executable, *shlex.split(command)[1:]]
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    from safetensors.numpy import load_file

    loaded = load_file(path.with_suffix(".safetensors"))
    np.testing.assert_array_equal(loaded["w"], np.arange(6.0).reshape(2, 3).T)


def test_the_command_never_runs_what_a_name_says() -> None:
    hint = convert_hint("a; rm -rf $HOME `id`.bin")
    assert shlex.split(hint.splitlines()[1])[-2:] == [
        "a; rm -rf $HOME `id`.bin",
        "a; rm -rf $HOME `id`.safetensors",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("adapter_config.json", "application/json"),
        ("a/b/README.md", "text/markdown"),
        ("x.SAFETENSORS", "application/vnd.safetensors"),
        ("x.tern", "application/vnd.ternery.tern"),
        ("LICENSE", "text/plain"),
        (".gitattributes", "text/plain"),
        ("page.html", DEFAULT_MEDIA_TYPE),
        ("image.svg", DEFAULT_MEDIA_TYPE),
        ("tokenizer.model", DEFAULT_MEDIA_TYPE),
        ("no-suffix", DEFAULT_MEDIA_TYPE),
    ],
)
def test_media_types_come_from_our_own_list(path: str, expected: str) -> None:
    assert media_type(path) == expected
