"""List the files of a local folder that a push would send.

A training run leaves more than an adapter behind. What a Trainer writes for itself is left out with
a warning, as is a pickle that stands beside its safetensors twin; any other pickle, code, archive
or symbolic link stops the push. Start at `list_folder`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import PathError, RefusedFileError
from registry.validation.file_paths import check_paths
from registry.validation.file_sources import LocalFile
from registry.validation.file_types import PICKLE_SUFFIXES, check_file_type
from registry.validation.findings import Finding, FindingCode
from registry.validation.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TRAINER_FILES = frozenset(
    {"optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt",
     "training_args.bin", "rng_state.pth"}
)  # fmt: skip
_SKIPPED_FOLDERS = frozenset({".git", ".huggingface", "__pycache__", ".ipynb_checkpoints"})
_SKIPPED_FILES = frozenset({".DS_Store", "Thumbs.db"})
_MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class FolderListing:
    """Hold what a push of a folder would send.

    Attributes:
        files: by path in the revision.
        findings: what is left out, and why.
    """

    files: Mapping[str, LocalFile]
    findings: tuple[Finding, ...]


def list_folder(folder: Path) -> FolderListing:
    """List a folder, or one file alone, for a push.

    Raises:
        PathError: a path is refused, or there are too many files.
        RefusedFileError: a file of a refused kind is among them.
    """
    if folder.is_file():
        check_file_type(folder.name)
        return FolderListing({folder.name: LocalFile(folder)}, ())
    found = dict(_walk(folder, folder))
    skipped = [_skip(path, found) for path in sorted(found)]
    findings = tuple(finding for finding in skipped if finding is not None)
    left_out = {finding.file for finding in findings}
    files = {path: LocalFile(found[path]) for path in check_paths(found) if path not in left_out}
    for path in files:
        check_file_type(path)
    return FolderListing(files, findings)


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    count = 0
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            path = Path(entry.path).relative_to(root).as_posix()
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                if entry.name not in _SKIPPED_FOLDERS and path != ".cache/huggingface":
                    pending.append(Path(entry.path))
                continue
            if entry.name in _SKIPPED_FILES:
                continue
            _check_mode(path, mode)
            count += 1
            if count > _MAX_FILES:
                raise PathError(
                    f"{root} holds more than {_MAX_FILES} files: is it an adapter's folder?",
                    reason=Reason.PATH_LENGTH,
                    file=str(root),
                    expected=f"at most {_MAX_FILES} files",
                    actual="more",
                )
            yield path, Path(entry.path)


def _check_mode(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    link = stat.S_ISLNK(mode)
    raise RefusedFileError(
        f"{path} is a symbolic link" if link else f"{path} is no regular file",
        reason=Reason.SYMLINK if link else Reason.SPECIAL_FILE,
        file=path,
        expected="a regular file",
        actual="a symbolic link" if link else "a device, pipe or socket",
        hint="copy the folder with `cp -rL` and push the copy" if link else "move it away",
    )


def _skip(path: str, found: Mapping[str, Path]) -> Finding | None:
    name = path.rpartition("/")[2]
    if name in _TRAINER_FILES or (name.startswith("rng_state") and name.endswith(".pth")):
        return Finding(
            FindingCode.FILE_SKIPPED,
            path,
            "",
            f"{path} is the Trainer's own state (a pickle) and is not pushed",
        )
    suffix = Path(path).suffix.lower()
    twin = path[: len(path) - len(suffix)] + ".safetensors"
    if suffix in PICKLE_SUFFIXES and twin in found:
        return Finding(
            FindingCode.FILE_SKIPPED,
            path,
            "",
            f"{path} is a pickle and is not pushed; {twin} beside it is",
            "they need not hold the same weights: check that the safetensors file is the right one",
        )
    return None
