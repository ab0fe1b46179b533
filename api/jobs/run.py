"""Be the process of one attempt of a job: `python -m api.jobs.run JOB ATTEMPT PARENT`.

What comes of it stands in the job's row before the process ends. If it ends otherwise, killed or by
a defect of its own, whoever started it or the end of its lease gives the job to another attempt.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from api.executors.orphans import end_with, orphaned
from api.hub import logs
from api.jobs.context import JobContext
from api.jobs.kinds import kind_of
from api.jobs.pulse import EXIT_LOST, Pulse
from api.problems import problem_of
from api.registry_settings import registry_settings
from api.settings import HubSettings
from registry.jobs.errors import LeaseLostError
from registry.jobs.values import JobFailure, JsonObject, Lease
from registry.service import Registry, join_registry

EXIT_STOPPED = 128 + signal.SIGTERM
_WORTH_ANOTHER_TRY = frozenset({429, 502, 503, 504})


def main(arguments: Sequence[str]) -> int:
    """Run the attempt that the arguments name, and return the exit code."""
    lease, parent = Lease(arguments[0], int(arguments[1])), int(arguments[2])
    end_with(parent)
    signal.signal(signal.SIGTERM, _stop)
    settings = HubSettings()
    logs.configure(settings.log_level)
    registry = join_registry(registry_settings(settings))
    try:
        return run_attempt(settings, registry, lease, parent=parent)
    except LeaseLostError:
        return EXIT_LOST
    finally:
        registry.close()


def run_attempt(
    settings: HubSettings, registry: Registry, lease: Lease, *, parent: int | None = None
) -> int:
    """Work on a job until it ended or this attempt did; return the exit code.

    Args:
        settings: the hub's.
        registry: what the hub keeps.
        lease: which attempt.
        parent: process that must stay alive, or None if the executor sees to that.

    Raises:
        LeaseLostError: somebody else has the job.
    """
    job = registry.leases.held(lease)
    if job.result is not None:  # an attempt before published, and died before it could say so
        registry.leases.succeed(lease, job.outcome)
        return 0
    pulse = Pulse(
        registry.leases,
        lease,
        lease_s=settings.job_lease_s,
        orphaned=lambda: parent is not None and orphaned(parent),
    )
    with pulse, tempfile.TemporaryDirectory(prefix="job-") as folder:
        pulse.log(f"attempt {lease.attempt} began in process {os.getpid()} of {job.owner}")
        return _settle(JobContext(settings, registry, job, pulse, Path(folder)))


def _settle(context: JobContext) -> int:
    """Do the work, and write into the row what came of it."""
    lease, leases = context.job.lease, context.registry.leases
    try:
        outcome = _work(context)
    except LeaseLostError:
        raise
    except Exception as error:  # noqa: BLE001 - the worker: whatever a job raises ends the job only
        failure, again = failure_of(error)
        logs.LOG.error("job %s: %s", lease.job, failure.code, exc_info=error)
        context.log(f"attempt {lease.attempt} failed: {failure.message}")
        context.pulse.stop()
        if again:
            leases.give_back(lease, failure)
        else:
            leases.fail(lease, failure)
        return 1
    context.pulse.stop()
    leases.succeed(lease, outcome)
    return 0


def _work(context: JobContext) -> JsonObject | None:
    kind = kind_of(context.job.kind)
    return kind.run(kind.read(context.job.parameters), context)


def failure_of(error: Exception) -> tuple[JobFailure, bool]:
    """Return what to tell of an error, and whether another attempt may fare better."""
    problem = problem_of(error)
    code = getattr(error, "code", None) or problem.row.code
    status = getattr(error, "status", None) or problem.row.status
    return JobFailure(str(code), problem.detail, problem.hint), status in _WORTH_ANOTHER_TRY


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
