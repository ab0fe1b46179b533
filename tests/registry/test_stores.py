"""Check which store a setting opens, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry.errors import ValidationError
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.blobs_memory import MemoryBlobStore
from registry.storage.stores import open_store


def test_memory_is_a_store() -> None:
    assert isinstance(open_store("memory:"), MemoryBlobStore)


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "file:{}", "{}/../x y"])
def test_a_folder_is_a_store(tmp_path: Path, form: str) -> None:
    url = form.format(tmp_path / "a")
    store = open_store(url)
    assert isinstance(store, LocalBlobStore)
    assert store.root.is_dir()
    assert store.root.is_relative_to(tmp_path)


def test_a_file_url_is_unquoted(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/a%20b")
    assert isinstance(store, LocalBlobStore)
    assert store.root == tmp_path / "a b"


def test_a_relative_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("here")
    assert isinstance(store, LocalBlobStore)
    assert store.root == tmp_path / "here"


@pytest.mark.parametrize(
    "url", ["", "memory:x", "memory://", "http://host/a", "gs://bucket", "file://host/a", "file:"]
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        open_store(url)
    assert caught.value.field == "store"
    assert "s3://bucket/prefix" in caught.value.expected
    assert "ADAPTERS_STORE" in caught.value.hint


def test_boto3_is_imported_only_for_s3(tmp_path: Path) -> None:
    code = (
        "import sys; from registry.storage.stores import open_store; "
        f"open_store('memory:'); open_store({str(tmp_path / 'a')!r}); "
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
