"""Say which kinds of file are refused, what to do instead, and how the rest is served.

Nothing that a client could run is accepted: a pickle executes what it contains when it is loaded.
Both the name and the first bytes of a file count. Start at `check_file_type`.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import RefusedFileError
from registry.validation.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill", ".pt2"}
)
_CODE_SUFFIXES = frozenset(
    {".py", ".pyc", ".pyo", ".pyw", ".pyx", ".ipynb", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".js",
     ".mjs", ".vbs", ".jar", ".lua", ".rb", ".pl", ".php"}
)  # fmt: skip
_EXECUTABLE_SUFFIXES = frozenset({".exe", ".dll", ".so", ".dylib", ".com", ".msi", ".app", ".pyd"})
_ARCHIVE_SUFFIXES = frozenset(
    {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl", ".egg", ".nemo",
     ".mar", ".keras", ".h5", ".hdf5"}
)  # fmt: skip
_MAGIC: tuple[tuple[bytes, Reason], ...] = (
    (b"\x80\x02", Reason.PICKLE),
    (b"\x80\x03", Reason.PICKLE),
    (b"\x80\x04", Reason.PICKLE),
    (b"\x80\x05", Reason.PICKLE),
    (b"\x93NUMPY", Reason.PICKLE),
    (b"PK\x03\x04", Reason.ARCHIVE),
    (b"\x1f\x8b", Reason.ARCHIVE),
    (b"BZh", Reason.ARCHIVE),
    (b"\xfd7zXZ", Reason.ARCHIVE),
    (b"7z\xbc\xaf", Reason.ARCHIVE),
    (b"Rar!", Reason.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Reason.ARCHIVE),
    (b"\x7fELF", Reason.EXECUTABLE),
    (b"MZ", Reason.EXECUTABLE),
    (b"\xcf\xfa\xed\xfe", Reason.EXECUTABLE),
    (b"\xca\xfe\xba\xbe", Reason.EXECUTABLE),
    (b"#!", Reason.CODE),
)

_MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".safetensors": "application/vnd.safetensors",
        ".tern": "application/vnd.ternery.tern",
        ".json": "application/json",
        ".jsonl": "application/jsonl",
        ".md": "text/markdown",
        ".txt": "text/plain",
        ".yaml": "application/yaml",
        ".yml": "application/yaml",
        ".toml": "application/toml",
        ".csv": "text/csv",
        ".tsv": "text/tab-separated-values",
        ".jinja": "text/plain",
        ".log": "text/plain",
        ".gitattributes": "text/plain",
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".webp": "image/webp",
        ".gif": "image/gif",
    }
)
_PLAIN_NAMES = frozenset({"LICENSE", "NOTICE", "COPYING", "README", ".gitattributes"})
DEFAULT_MEDIA_TYPE = "application/octet-stream"
SNIFF_BYTES = 1024

_CONVERT = (
    'python -c "import sys, torch, safetensors.torch as s; '
    "t = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "s.save_file({{k: v.clone().contiguous() for k, v in t.items()}}, sys.argv[2], "
    "metadata={{'format': 'pt'}})\" {file} {target}"
)


def media_type(path: str) -> str:
    """Return the media type that a file is kept and served with, from our own list alone."""
    name = PurePosixPath(path)
    if name.name in _PLAIN_NAMES:
        return "text/plain"
    return _MEDIA_TYPES.get(name.suffix.lower(), DEFAULT_MEDIA_TYPE)


def check_file_type(path: str, start: bytes = b"") -> None:
    """Refuse a file that could run, by its name or by its first bytes.

    Args:
        path: its path in the revision.
        start: its first bytes, `SNIFF_BYTES` of them where there are as many.

    Raises:
        RefusedFileError: with the command that converts it, where there is one.
    """
    reason = refused_suffix(path) or _refused_start(path, start)
    if reason is None:
        return
    raise RefusedFileError(
        f"{path} is refused: {_WHY[reason]}",
        reason=reason,
        file=path,
        expected="safetensors, JSON, text and images",
        actual=start[:8].hex(" ") if start else PurePosixPath(path).suffix,
        hint=convert_hint(path) if reason is Reason.PICKLE else _INSTEAD[reason],
    )


def refused_suffix(path: str) -> Reason | None:
    """Return why a file's name alone has it refused, or None."""
    suffix = PurePosixPath(path).suffix.lower()
    for reason, suffixes in (
        (Reason.PICKLE, PICKLE_SUFFIXES),
        (Reason.CODE, _CODE_SUFFIXES),
        (Reason.EXECUTABLE, _EXECUTABLE_SUFFIXES),
        (Reason.ARCHIVE, _ARCHIVE_SUFFIXES),
    ):
        if suffix in suffixes:
            return reason
    return None


def convert_hint(path: str) -> str:
    """Return the command that turns a pickle of tensors into safetensors."""
    target = str(PurePosixPath(path).with_suffix(".safetensors"))
    command = _CONVERT.format(file=shlex.quote(path), target=shlex.quote(target))
    return f"convert it in an isolated environment, then push again:\n  {command}"


def _refused_start(path: str, start: bytes) -> Reason | None:
    if path.lower().endswith((".safetensors", ".tern")):
        return None  # its own parser judges it: any length may begin with these bytes
    return next((reason for magic, reason in _MAGIC if start.startswith(magic)), None)


_WHY = {
    Reason.PICKLE: "it is a pickle, which can run code when it is loaded",
    Reason.CODE: "it is program code",
    Reason.EXECUTABLE: "it is an executable",
    Reason.ARCHIVE: "it is an archive, whose content nobody checked",
}
_INSTEAD = {
    Reason.CODE: "keep code in a code repository; move the file out of the folder and push again",
    Reason.EXECUTABLE: "move the file out of the folder and push again",
    Reason.ARCHIVE: "unpack it, keep the safetensors files, and push again",
}
