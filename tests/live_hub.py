"""Start a real hub in a process of its own, so that tests can stop, kill and restart it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
_SCRIPT = """
import json
from api.server import serve
from api.settings import HubSettings
serve(HubSettings(), ready=lambda url: print(json.dumps({"url": url}), flush=True))
"""


class HubDiedError(Exception):
    """Say that a hub ended before it was ready, with the end of its log."""


@dataclass(slots=True)
class LiveHub:
    """Be a hub that runs.

    Attributes:
        url: where it answers, without a path.
        process: what runs it.
        data_dir: its folder, which outlives it.
        log_path: its log, one JSON object a line.
        settings: what it was started with, to start it again alike.
    """

    url: str
    process: subprocess.Popen[str]
    data_dir: Path
    log_path: Path
    settings: dict[str, object] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def api(self) -> str:
        """Return the URL of the API."""
        return f"{self.url}/api/v1"

    def client(self, token: str | None = None) -> httpx2.Client:
        """Return an HTTP client of the API, which the caller closes."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.api, headers=headers, timeout=60, trust_env=False)

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """Ask it to stop, wait until it did, and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(timeout_s)
        self._close()
        return status

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def log(self) -> list[dict[str, object]]:
        """Return the lines of its log."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_hub(folder: Path, **settings: object) -> LiveHub:
    """Start a hub on a free port of loopback.

    Args:
        folder: its data, and `hub.log`; start again with the same one to go on.
        settings: fields of `HubSettings`, as in `start_hub(tmp_path, auth="token")`; it runs jobs
            only with `job_slots`.

    Raises:
        HubDiedError: it did not start.
    """
    log_path = folder / "hub.log"
    given = {"port": 0, "data_dir": folder, "job_slots": 0, **settings}
    process = start_process(log_path, given)
    url = _announced(process, log_path)
    return LiveHub(url, process, folder, log_path, settings)


def start_process(log_path: Path, settings: dict[str, object]) -> subprocess.Popen[str]:
    """Start the process of a hub without waiting for it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ADAPTERS_")}
    environment |= {f"ADAPTERS_{name.upper()}": str(value) for name, value in settings.items()}
    environment["PYTHONPATH"] = str(ROOT)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
            start_new_session=True,
        )


def _announced(process: subprocess.Popen[str], log_path: Path) -> str:
    line = ""
    if process.stdout is not None:
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        status = process.wait()
        if process.stdout:
            process.stdout.close()
        end = log_path.read_text()[-3000:]
        message = f"the hub ended with status {status}:\n{end}"
        raise HubDiedError(message)
    return str(json.loads(line)["url"])


def wait_until(holds: object, *, timeout_s: float = 10.0) -> None:
    """Wait until a call without arguments returns something true.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + timeout_s
    while not (callable(holds) and holds()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
