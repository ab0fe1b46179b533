"""Run what the README tells people to type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live_hub import start_hub

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
# Set-up that changes the machine, and servers that do not end: shown, not run.
NOT_RUN = ("make ", "pip ", "export ", "adapters serve", "adapters worker")


def commands() -> list[str]:
    """Return the `adapters …` lines of every console block, in order."""
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(NOT_RUN)]


def test_the_readme_shows_the_main_job() -> None:
    verbs = [shlex.split(line)[1] for line in commands()]
    assert {"push", "list", "compress", "inspect", "pull", "decompress", "admin", "jobs"} <= set(
        verbs
    )
    assert "make tour" in README
    assert "make test" in README


def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    hub = start_hub(tmp_path / "hub", job_slots=1)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ADAPTERS_ENDPOINT": hub.url,
        "ADAPTERS_DATA_DIR": str(tmp_path / "hub"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    try:
        for line in commands():
            done = subprocess.run(
                shlex.split(line),
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    finally:
        hub.stop()
    assert (tmp_path / "sst2-small" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "again" / "adapter_config.json").read_bytes() == (
        ROOT / "examples" / "sst2" / "adapter_config.json"
    ).read_bytes()


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:registry|compress|merge|api|benchmarks)/[\w/.]*)`", README))),
)
def test_the_map_points_at_what_is_there(path: str) -> None:
    assert (ROOT / path).exists()
