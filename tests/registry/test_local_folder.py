"""A local folder is listed as a push would send it: trainer state skipped, the rest judged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.errors import PathError, RefusedFileError
from registry.validation.findings import FindingCode
from registry.validation.local_folder import list_folder
from registry.validation.reasons import Reason
from tests.safetensors_files import config, good_file, lora

TRAINER = [
    "optimizer.pt",
    "scheduler.pt",
    "training_args.bin",
    "rng_state.pth",
    "rng_state_3.pth",
    "scaler.pt",
]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(config())
    (folder / "adapter_model.safetensors").write_bytes(good_file(lora(["q", "v"])))
    (folder / "README.md").write_text("# hello")
    return folder


def test_an_adapter_is_listed_in_order(adapter: Path) -> None:
    listing = list_folder(adapter)
    assert list(listing.files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert listing.findings == ()
    source = listing.files["README.md"]
    assert source.size_bytes == 7
    with source.open() as reader:
        assert reader.read() == b"# hello"


def test_subfolders_have_slashes(adapter: Path) -> None:
    (adapter / "logs" / "deep").mkdir(parents=True)
    (adapter / "logs" / "deep" / "a.txt").write_text("x")
    assert "logs/deep/a.txt" in list_folder(adapter).files


@pytest.mark.parametrize("name", TRAINER)
def test_trainer_state_is_left_out_with_a_warning(adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"\x80\x02.")
    listing = list_folder(adapter)
    assert name not in listing.files
    assert "adapter_model.safetensors" in listing.files
    (finding,) = listing.findings
    assert (finding.code, finding.file) == (FindingCode.FILE_SKIPPED, name)


def test_a_whole_checkpoint_folder_passes(adapter: Path) -> None:
    for name in TRAINER:
        (adapter / name).write_bytes(b"\x80\x02.")
    (adapter / "trainer_state.json").write_text("{}")
    listing = list_folder(adapter)
    assert len(listing.findings) == len(TRAINER)
    assert "trainer_state.json" in listing.files


def test_a_pickle_beside_its_twin_is_left_out_with_a_warning(adapter: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x02.")
    listing = list_folder(adapter)
    assert "adapter_model.bin" not in listing.files
    (finding,) = listing.findings
    assert "adapter_model.safetensors beside it" in finding.message


def test_a_pickle_alone_stops_the_push_with_the_command(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(RefusedFileError) as caught:
        list_folder(adapter)
    assert caught.value.reason == Reason.PICKLE
    assert "weights_only=True" in caught.value.hint
    assert "adapter_model.safetensors" in caught.value.hint


@pytest.mark.parametrize("name", ["modeling.py", "run.sh", "notebook.ipynb", "x.zip"])
def test_code_and_archives_stop_the_push(adapter: Path, name: str) -> None:
    (adapter / name).write_text("x")
    with pytest.raises(RefusedFileError) as caught:
        list_folder(adapter)
    assert caught.value.file == name


@pytest.mark.parametrize("target", ["README.md", "/etc/passwd", "nowhere"])
def test_symbolic_links_stop_the_push(adapter: Path, target: str) -> None:
    (adapter / "link.md").symlink_to(target)
    with pytest.raises(RefusedFileError) as caught:
        list_folder(adapter)
    assert caught.value.reason == Reason.SYMLINK
    assert "cp -rL" in caught.value.hint


def test_a_linked_folder_is_not_followed(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (adapter / "sub").symlink_to(tmp_path / "secret", target_is_directory=True)
    with pytest.raises(RefusedFileError) as caught:
        list_folder(adapter)
    assert caught.value.reason == Reason.SYMLINK


def test_a_pipe_stops_the_push(adapter: Path) -> None:
    os.mkfifo(adapter / "pipe")
    with pytest.raises(RefusedFileError) as caught:
        list_folder(adapter)
    assert caught.value.reason == Reason.SPECIAL_FILE


@pytest.mark.parametrize("folder", [".git", "__pycache__", ".huggingface", ".cache/huggingface"])
def test_bookkeeping_folders_are_not_looked_into(adapter: Path, folder: str) -> None:
    (adapter / folder).mkdir(parents=True)
    (adapter / folder / "x.pyc").write_bytes(b"x")
    assert not any("x.pyc" in path for path in list_folder(adapter).files)


def test_colliding_names_stop_the_push(adapter: Path) -> None:
    (adapter / "readme.MD").write_text("x")
    with pytest.raises(PathError) as caught:
        list_folder(adapter)
    assert caught.value.reason == Reason.PATH_COLLISION


def test_a_single_file_is_listed_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "expert.tern"
    path.write_bytes(b"x")
    assert list(list_folder(path).files) == ["expert.tern"]


def test_a_single_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"x")
    with pytest.raises(RefusedFileError):
        list_folder(path)
