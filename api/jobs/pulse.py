"""Tell the queue, from a thread, that a job's process lives, how far it is and what it says.

The thread is the job's conscience: if its lease is lost, or the queue cannot be asked for as long
as the lease lasts, or its supervisor is gone, it ends the process at once. So no two processes
ever work on one job for longer than a beat.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from registry.catalog.database import DatabaseError
from registry.jobs.errors import LeaseLostError
from registry.jobs.leases import Leases
from registry.jobs.values import MAX_LOG_LINES, JobProgress, Lease

BEAT_S = 0.5
EXIT_LOST = 75
_BEATS_A_LEASE = 4


class Pulse:
    """Beat while a job runs: `with Pulse(…) as pulse`.

    Attributes:
        lease: the attempt that this process works on.
    """

    def __init__(
        self,
        leases: Leases,
        lease: Lease,
        *,
        lease_s: float,
        orphaned: Callable[[], bool],
    ) -> None:
        self.lease = lease
        self._leases = leases
        self._lease_s = lease_s
        self._orphaned = orphaned
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._progress: JobProgress | None = None
        self._lines: list[str] = []
        self._extended_at = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="pulse")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def stop(self) -> None:
        """Beat no more, and tell what was not told yet: the job is about to end.

        Raises:
            LeaseLostError: somebody else has the job.
            DatabaseError: the queue cannot be asked.
        """
        self._over.set()
        self._thread.join()
        self.flush()

    def report(self, progress: JobProgress) -> None:
        """Say how far the job is; told with the next beat."""
        with self._lock:
            self._progress = progress

    def log(self, text: str) -> None:
        """Add a line to the job's log, with the next beat."""
        with self._lock:
            self._lines = [*self._lines[-MAX_LOG_LINES + 1 :], text]

    def flush(self) -> None:
        """Tell now what was not told yet.

        Raises:
            LeaseLostError: somebody else has the job.
            DatabaseError: the queue cannot be asked.
        """
        with self._lock:
            progress, lines = self._progress, self._lines
            self._progress, self._lines = None, []
        if progress is not None:
            self._leases.report(self.lease, progress)
        if lines:
            self._leases.log(self.lease, lines)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self.flush()
                self._extend()
            except LeaseLostError:
                if not self._over.is_set():
                    os._exit(EXIT_LOST)
            except DatabaseError:
                if time.monotonic() - self._extended_at > self._lease_s:
                    os._exit(EXIT_LOST)
            if self._orphaned():
                os._exit(EXIT_LOST)

    def _extend(self) -> None:
        now = time.monotonic()
        if now - self._extended_at < self._lease_s / _BEATS_A_LEASE:
            return
        if self._leases.extend(self.lease, lease_s=self._lease_s):
            os.kill(os.getpid(), signal.SIGTERM)
        self._extended_at = now
