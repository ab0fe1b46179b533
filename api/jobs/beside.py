"""Run a worker beside a hub, in a process of its own, and begin it again if it dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

from api.settings import HubSettings, environment_with

LOG = logging.getLogger("ternery.jobs")
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_MORE_S = 10.0


class WorkerBeside:
    """Keep one worker running, if the settings give it slots."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._over = threading.Event()
        # The kernel ends a worker with the thread that began it: that one lives as long as we do.
        self._thread = threading.Thread(target=self._keep, daemon=True, name="worker")

    def start(self) -> None:
        """Begin a worker, and another one whenever it dies."""
        if self._settings.slots:
            self._thread.start()

    def stop(self) -> None:
        """Stop the worker and wait for its end; what it ran goes back to the queue."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _keep(self) -> None:
        pause_s = _PAUSE_S
        while not self._over.is_set():
            began = time.monotonic()
            process = self._begin()
            while process.poll() is None and not self._over.wait(_PAUSE_S / 4):
                pass
            if self._over.is_set():
                _end(process, self._settings.job_grace_s + _MORE_S)
                return
            LOG.error("the worker ended with status %s; another one begins", process.returncode)
            lasted = time.monotonic() - began > _LONGEST_PAUSE_S
            pause_s = _PAUSE_S if lasted else min(2 * pause_s, _LONGEST_PAUSE_S)
            self._over.wait(pause_s)

    def _begin(self) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "api.cli.main", "worker", "--json"]
        slots = str(self._settings.slots)
        return subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            [*program, "--slots", slots, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment_with(self._settings),
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
