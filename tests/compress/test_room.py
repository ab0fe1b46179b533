"""Check the room as a whole: what it exports, and what it never imports."""

from __future__ import annotations

import inspect as introspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import compress

ROOT = Path(compress.__file__).resolve().parent.parent
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n)+", re.MULTILINE)


def test_few_public_names() -> None:
    assert len(compress.__all__) <= 15
    assert list(compress.__all__) == sorted(compress.__all__)
    for name in compress.__all__:
        assert introspect.getdoc(getattr(compress, name))


@pytest.mark.parametrize(
    "absent",
    ["torch", "peft", "transformers", "registry", "fastapi", "click", "boto3", "sqlalchemy"],
)
def test_decoding_needs_only_numpy(absent: str) -> None:
    code = f"import sys, compress; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_nothing_is_imported_late() -> None:
    """Every import stands at the top of its file, so that the test above sees all of them."""
    for path in (ROOT / "compress").rglob("*.py"):
        # what only a type checker reads is never imported at all
        executed = _TYPES_ONLY.sub("", path.read_text())
        for line in executed.splitlines():
            assert not line.startswith((" ", "\t")) or not line.strip().startswith(
                ("import ", "from ")
            ), f"{path.name}: {line}"


def test_the_whole_way_without_torch(tmp_path: Path, examples: Path) -> None:
    """Compress and decompress a shipped expert in a process that cannot import torch."""
    source = examples / "sst2"
    if not source.is_dir():
        pytest.skip(f"no example at {source}")
    small, out = tmp_path / "x.tern", tmp_path / "out"
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
import compress
source, small, out = Path({str(source)!r}), Path({str(small)!r}), Path({str(out)!r})
report = compress.compress_adapter(source, small)
compress.decompress(small, out)
sys.exit(compress.inspect(small).parameters != report.parameters)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
    assert (out / "adapter_model.safetensors").is_file()


def test_hints_never_name_what_does_not_exist() -> None:
    """Errors carry every field that they are given."""
    error = compress.CompressError("m", file="f", field="x", expected="e", actual="a", hint="h")
    assert (error.message, error.file, error.field) == ("m", "f", "x")
    assert (error.expected, error.actual, error.hint) == ("e", "a", "h")
