"""Be a worker: a supervisor with an executor, until a signal stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from api.executors.contract import Executor
from api.executors.local import LocalExecutor, job_command
from api.hub import logs
from api.jobs.supervisor import Supervisor, remove_leftovers
from api.registry_settings import registry_settings
from api.settings import DEFAULT_SLOTS, HubSettings, cores, environment_with
from registry.service import open_registry

_FOLDER = "jobs"


def local_executor(settings: HubSettings, *, slots: int) -> LocalExecutor:
    """Return an executor that runs so many jobs at once on this machine."""
    threads = max(1, cores() // max(1, slots))

    def environment(folder: Path, gpus: Sequence[str]) -> dict[str, str]:
        return environment_with(
            settings,
            TMPDIR=str(folder),
            CUDA_VISIBLE_DEVICES=",".join(gpus),
            OMP_NUM_THREADS=str(threads),
            OPENBLAS_NUM_THREADS=str(threads),
        )

    return LocalExecutor(
        job_command(),
        environment,
        folder=settings.data_dir.absolute() / _FOLDER,
        slots=slots,
        gpus=settings.gpus,
        grace_s=settings.job_grace_s,
    )


def work(
    settings: HubSettings,
    *,
    executor: Executor | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run jobs until SIGTERM or SIGINT; what runs then goes back to the queue.

    Args:
        settings: the hub's: its database and store.
        executor: what runs them; None takes this machine.
        ready: told the worker's name once it takes jobs.

    Raises:
        StorageError: database or store cannot be opened.
    """
    logs.configure(settings.log_level)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    registry = open_registry(registry_settings(settings))
    try:
        slots = DEFAULT_SLOTS if settings.job_slots is None else settings.job_slots
        remove_leftovers(settings.data_dir.absolute() / _FOLDER, registry.leases)
        supervisor = Supervisor(
            registry.leases,
            executor or local_executor(settings, slots=slots),
            settings.job_lease_s,
        )
        if ready is not None:
            ready(supervisor.owner)
        supervisor.run(over)
    finally:
        registry.close()
