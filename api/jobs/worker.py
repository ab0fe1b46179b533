"""Be a worker: a supervisor with an executor, until a signal stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from api.errors import StartError
from api.executors.contract import Executor
from api.executors.local import LocalExecutor, job_command
from api.hub import logs
from api.jobs.supervisor import Supervisor, remove_leftovers
from api.registry_settings import registry_settings
from api.settings import DEFAULT_SLOTS, HubSettings, JobExecutor, cores, environment_with
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


def executor_of(settings: HubSettings) -> Executor:
    """Return the executor that the settings name, with its slots.

    Raises:
        StartError: it is Ray, and the package or the cluster is not there.
    """
    slots = DEFAULT_SLOTS if settings.job_slots is None else settings.job_slots
    if settings.job_executor is JobExecutor.LOCAL:
        return local_executor(settings, slots=slots)
    try:
        from api.executors.ray_cluster import RayExecutor, join_cluster  # noqa: PLC0415 - an extra

        join_cluster(settings.ray_address)
    except ImportError as error:
        raise StartError(
            "jobs on Ray need the package ray", hint="pip install 'ternery[ray]' on every node"
        ) from error
    except OSError as error:
        raise StartError(
            f"there is no Ray cluster at {settings.ray_address!r}",
            hint="start one with `ray start --head`, or set ADAPTERS_RAY_ADDRESS",
        ) from error
    return RayExecutor(settings, slots=slots)


def work(settings: HubSettings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run jobs until SIGTERM or SIGINT; what runs then goes back to the queue.

    Args:
        settings: the hub's: its database and store.
        ready: told the worker's name once it takes jobs.

    Raises:
        StartError: the executor is not there.
        StorageError: database or store cannot be opened.
    """
    logs.configure(settings.log_level)
    over = threading.Event()
    registry = open_registry(registry_settings(settings))
    try:
        remove_leftovers(settings.data_dir.absolute() / _FOLDER, registry.leases)
        executor = executor_of(settings)
        for number in (signal.SIGTERM, signal.SIGINT):  # after Ray, which takes them for itself
            signal.signal(number, lambda *_: over.set())
        supervisor = Supervisor(registry.leases, executor, settings.job_lease_s)
        if ready is not None:
            ready(supervisor.owner)
        supervisor.run(over)
    finally:
        registry.close()
