"""Put results in place whole: nothing half-written is ever seen under its final name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compress.errors import DestinationError, SourceError

LONE_SUFFIX = ".tern"
FOLDER_SUFFIX = ".tern.safetensors"


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """Give a folder beside the destination to fill; rename it when the block ends well.

    Raises:
        DestinationError: the destination exists and is not an empty folder, or cannot be written.
    """
    require_free(destination)
    with _workplace(destination) as work:
        filled = work / "new"
        filled.mkdir()
        yield filled
        _rename(filled, destination)


@contextmanager
def new_file(destination: Path) -> Iterator[Path]:
    """Give a path beside the destination to write to; rename it when the block ends well.

    Raises:
        DestinationError: the destination is a folder, or cannot be written.
    """
    if destination.is_dir():
        raise DestinationError("there is a folder of this name", file=str(destination))
    with _workplace(destination) as work:
        written = work / "new"
        yield written
        _rename(written, destination)


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy plain files into a folder, each to its relative path."""
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name, follow_symlinks=False)


def plain_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Find what can be copied in a folder and below it; hidden files are passed over.

    Returns:
        the files by relative path, and the names of what is a link or another thing.
    """
    files: dict[str, Path] = {}
    odd = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            odd.append(relative.as_posix())
        elif path.is_file():
            files[relative.as_posix()] = path
    return files, odd


def find_tern(path: Path) -> Path:
    """Find a `.tern` file: the file itself, or the only one in a folder.

    Raises:
        SourceError: there is none, or more than one.
    """
    if path.is_file():
        return path
    found = tern_files(path)
    if len(found) != 1:
        raise SourceError(
            "there is no single compressed file",
            file=str(path),
            expected=f"one *{FOLDER_SUFFIX} or *{LONE_SUFFIX}",
            actual=str(len(found)),
        )
    return found[0]


def tern_files(folder: Path) -> list[Path]:
    """List the `.tern` files of a folder; none if it is no folder."""
    if not folder.is_dir():
        return []
    endings = (FOLDER_SUFFIX, LONE_SUFFIX)
    return sorted(path for path in folder.iterdir() if path.name.endswith(endings))


@contextmanager
def _workplace(destination: Path) -> Iterator[Path]:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".tern-", dir=destination.parent))
    except OSError as error:
        raise DestinationError(
            f"the place cannot be written: {error.strerror}", file=str(destination)
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_free(destination: Path) -> None:
    """Check that a folder can be made here, before there is work to lose.

    Raises:
        DestinationError: the destination exists and is not an empty folder.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise DestinationError(
            "the destination is taken",
            file=str(destination),
            expected="a new or an empty folder",
            hint="choose another name or remove it first",
        )


def _rename(made: Path, destination: Path) -> None:
    try:
        made.replace(destination)
    except OSError as error:
        raise DestinationError(
            f"the result cannot be put in place: {error.strerror}", file=str(destination)
        ) from error
