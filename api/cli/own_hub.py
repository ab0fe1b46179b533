"""Run a hub of one's own for a while, in a process of its own on a free port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.remote.errors import TourError
from api.settings import environment_without_settings

_STOP_S = 20


@contextmanager
def own_hub(data_dir: Path) -> Iterator[str]:
    """Start a hub on the embedded default; give its URL and stop it at the end.

    Raises:
        TourError: it does not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "hub.log"
    command = [sys.executable, "-m", "api.cli.main", "serve", "--json", "--port", "0"]
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            [*command, "--host", "127.0.0.1", "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).resolve().parents[2],
            env=environment_without_settings(),
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the line that says where the hub listens; it ends early if the hub does."""
    line = process.stdout.readline() if process.stdout is not None else b""
    try:
        value = json.loads(line)
    except ValueError:
        value = {}
    if not isinstance(value.get("url"), str):
        raise TourError("the hub did not start", hint=f"{log} says why")
    return str(value["url"])
