"""Run jobs on a Ray cluster that is there already: Ray places them and counts GPUs, no more.

Each attempt is one Ray task without retries of its own, which runs the job as a process of its node
just as the local executor does. What Ray loses (a task, a worker, a node) is told as ended, and the
queue gives the job to another attempt; what still runs on a node that is out of reach has lost its
lease by then, and ends itself within a beat. Every node needs this program, and reaches the hub's
database and store; the settings travel with the task.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

import ray
from ray.exceptions import RayError, TaskCancelledError

from api.executors.contract import Ended, end_all
from api.jobs.worker import local_executor
from api.settings import HubSettings, visible_gpus
from registry.jobs.values import Lease

_POLL_S = 0.1
_CLOSE_POLL_S = 0.05
_CONNECT_S = 5.0


@dataclass(slots=True)
class _Running:
    """Be one attempt that Ray has."""

    task: ray.ObjectRef
    gpus: int
    kill_at: float | None = None


class RayExecutor:
    """Be the executor of a Ray cluster; see `api.executors.contract`."""

    def __init__(self, settings: HubSettings, *, slots: int) -> None:
        self._settings = settings
        self._slots = slots
        self._running: dict[Lease, _Running] = {}
        self._task = ray.remote(max_retries=0, num_cpus=1)(_attempt)

    def room(self) -> int | None:
        """Return how many of the cluster's GPUs we have not given away, or None without a slot."""
        if len(self._running) >= self._slots:
            return None
        there = int(ray.cluster_resources().get("GPU", 0))
        if self._settings.job_gpus is not None:
            there = min(there, len(self._settings.job_gpus))
        return max(0, there - sum(running.gpus for running in self._running.values()))

    def start(self, lease: Lease, *, gpus: int) -> None:
        """Hand an attempt to Ray, which begins it where there is room."""
        task = self._task.options(num_gpus=gpus, name=f"job-{lease.job}-{lease.attempt}")
        self._running[lease] = _Running(task.remote(self._settings, lease, gpus), gpus)

    def stop(self, lease: Lease) -> None:
        """Ask an attempt to end; it is killed after the grace time."""
        running = self._running.get(lease)
        if running is not None and running.kill_at is None:
            # The task itself waits one grace time for the job's process.
            running.kill_at = time.monotonic() + 2 * self._settings.job_grace_s + 1
            ray.cancel(running.task, force=False)

    def ended(self) -> list[Ended]:
        """Return what ended, and kill what was asked to end and did not."""
        now = time.monotonic()
        for running in self._running.values():
            if running.kill_at is not None and now >= running.kill_at:
                ray.cancel(running.task, force=True)
        tasks = [running.task for running in self._running.values()]
        ready = set(ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]) if tasks else set()
        over = [lease for lease, running in self._running.items() if running.task in ready]
        return [_ended(lease, self._running.pop(lease).task) for lease in over]

    def close(self) -> list[Ended]:
        """Ask everything to end, kill what does not, and return all of it."""
        return end_all(self, self._running, poll_s=_CLOSE_POLL_S)


def join_cluster(address: str) -> None:
    """Connect to a Ray cluster.

    Args:
        address: `auto`, `host:port` of its head, or `local` to start one here.

    Raises:
        OSError: there is none.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():  # Ray itself would try for minutes, and then end the process
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)


def _ended(lease: Lease, task: ray.ObjectRef) -> Ended:
    try:
        found = ray.get(task)
    except TaskCancelledError:
        return Ended(lease, "was stopped on the cluster")
    except RayError as error:
        return Ended(lease, f"was lost on the cluster: {type(error).__name__}")
    return found if isinstance(found, Ended) else Ended(lease, "ended")


def _attempt(settings: HubSettings, lease: Lease, gpus: int) -> Ended:
    """Run one attempt as a process of this node, until it ended or Ray cancels us."""
    devices = visible_gpus() if gpus else ()
    own = settings.model_copy(update={"job_gpus": devices})
    executor = local_executor(own, slots=1)
    executor.start(lease, gpus=gpus)
    try:
        while not (found := executor.ended()):
            time.sleep(_POLL_S)
    finally:
        executor.close()
    return found[0]
