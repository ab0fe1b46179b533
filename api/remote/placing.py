"""Put fetched files into a folder: all of it by one rename where the folder is new or empty."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from api.remote.errors import ListingError, TargetTakenError
from registry.digest import Digest
from registry.manifest_json import FileBody


def holds(folder: Path, file: FileBody) -> bool:
    """Return whether a folder holds a file of a revision already, byte for byte."""
    path = folder / file.path
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as stream:
        return str(Digest.of_stream(stream)) == file.digest


def check_target(folder: Path, files: Sequence[FileBody], *, force: bool) -> None:
    """Refuse, before anything is fetched, a folder that holds something else.

    Raises:
        TargetTakenError: it does, and `force` is not set.
    """
    if force and (folder.is_dir() or not folder.exists()):
        return
    if folder.exists() and not folder.is_dir():
        raise TargetTakenError(folder, folder.name)
    wanted = {file.path: file for file in files}
    for name in _present(folder):
        if name not in wanted or not holds(folder, wanted[name]):
            raise TargetTakenError(folder, name)


def place(source: Path, folder: Path, *, force: bool) -> tuple[str, ...]:
    """Move everything from `source` to `folder`; return the paths.

    A folder that is absent or empty appears at once and whole. In any other each file is replaced
    by a rename, and files of other names stay.

    Raises:
        TargetTakenError: the folder holds something else, and `force` is not set.
        ListingError: a symbolic link in the folder would lead a file elsewhere.
    """
    names = _present(source)
    if _replaceable(folder):
        source.chmod(0o755)  # temporary folders are for their owner alone
        source.replace(folder)
        return names
    if not force:
        _refuse_other(source, folder)
    for name in names:
        target = folder / name
        _check_inside(folder, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target)
    return names


def link_or_copy(source: Path, destination: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _present(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        )
    )


def _refuse_other(source: Path, folder: Path) -> None:
    for name in _present(folder):
        ours = source / name
        if not ours.is_file() or not filecmp.cmp(ours, folder / name, shallow=False):
            raise TargetTakenError(folder, name)


def _replaceable(folder: Path) -> bool:
    """Return whether a rename can put a whole folder here: nothing is there that anybody uses."""
    if folder.is_symlink() or folder.is_mount() or folder.resolve() == Path.cwd():
        return False
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _check_inside(folder: Path, target: Path) -> None:
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_dir():
        raise ListingError(
            f"{target} leads out of {folder} or is a folder", hint="choose another --to"
        )
