"""Take jobs from the queue, give them to an executor, and see what becomes of them.

Any number of supervisors share a queue. Each also takes jobs back from workers that fell silent,
whoever's they were, so that one that was killed is missed by the others or by its successor.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.executors.contract import Ended, Executor
from registry.catalog.database import DatabaseError
from registry.jobs.errors import LeaseLostError
from registry.jobs.leases import Leases
from registry.jobs.values import JobFailure, Lease

LOG = logging.getLogger("ternery.jobs")
POLL_S = 0.2
_PATIENCE_S = 2.0
_BEATS_A_LEASE = 4


@dataclass(slots=True)
class Supervisor:
    """Keep an executor busy.

    Attributes:
        leases: the queue, as workers see it.
        executor: what runs jobs.
        lease_s: how long a job is ours without a sign of life.
        owner: what we are called in the rows.
    """

    leases: Leases
    executor: Executor
    lease_s: float
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _running: dict[Lease, float] = field(default_factory=dict)

    def run(self, over: threading.Event) -> None:
        """Work until `over` is set; what runs then is stopped and goes back to the queue."""
        try:
            while not over.is_set():
                try:
                    busy = self.turn()
                except DatabaseError:
                    LOG.exception("the queue cannot be asked")
                    busy = over.wait(_PATIENCE_S)
                over.wait(0 if busy else POLL_S)
        finally:
            for ended in self.executor.close():
                self._settle(ended, forgive=True)

    def turn(self) -> bool:
        """Do once what there is to do; return whether a job was begun.

        Raises:
            DatabaseError: the queue cannot be asked.
        """
        for ended in self.executor.ended():
            self._settle(ended)
        for job, state in self.leases.expire():
            LOG.warning("job %s fell silent: %s", job, state)
        self._extend()
        for lease in self.leases.to_stop(list(self._running)):
            self.executor.stop(lease)
        begun = False
        while (gpus := self.executor.room()) is not None and self._begin(gpus):
            begun = True
        return begun

    def _extend(self) -> None:
        """Say that what we run lives; a job says so itself once its process has begun."""
        now = time.monotonic()
        for lease, extended_at in self._running.items():
            if now - extended_at >= self.lease_s / _BEATS_A_LEASE:
                with suppress(LeaseLostError):
                    self.leases.extend(lease, lease_s=self.lease_s)
                self._running[lease] = now

    def _begin(self, gpus: int) -> bool:
        job = self.leases.claim(self.owner, lease_s=self.lease_s, gpus=gpus)
        if job is None:
            return False
        self._running[job.lease] = time.monotonic()
        try:
            self.executor.start(job.lease, gpus=job.gpus)
        except OSError as error:
            self._settle(Ended(job.lease, f"could not be begun: {error.strerror}"))
        return True

    def _settle(self, ended: Ended, *, forgive: bool = False) -> None:
        """Give a job back whose process ended without saying what came of it."""
        self._running.pop(ended.lease, None)
        message = f"attempt {ended.lease.attempt} {ended.detail}"
        try:
            self.leases.log(ended.lease, [message])
            failure = JobFailure("job-died", message, "see its log, and that of its worker")
            state = self.leases.give_back(ended.lease, failure, forgive=forgive)
        except LeaseLostError:
            return  # it said so itself
        except DatabaseError:
            LOG.exception("job %s will be missed when its lease ends", ended.lease.job)
            return
        LOG.warning(
            "job %s: %s, now %s",
            ended.lease.job,
            message,
            state,
            extra={"fields": {"output": "\n".join(ended.tail)}},
        )


def remove_leftovers(folder: Path, leases: Leases) -> None:
    """Remove the folders of attempts that are over: a supervisor that was killed left them."""
    there = {Lease(name, int(number)): path for path, name, number in _folders(folder)}
    for lease in leases.to_stop(list(there)):
        shutil.rmtree(there[lease], ignore_errors=True)


def _folders(folder: Path) -> list[tuple[Path, str, str]]:
    paths = folder.iterdir() if folder.is_dir() else ()
    split = [(path, *path.name.partition("-")[::2]) for path in paths]
    return [(path, name, number) for path, name, number in split if number.isdigit()]
