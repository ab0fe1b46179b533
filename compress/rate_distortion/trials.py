"""Compress by the method `rd`: search, write, measure; search again where estimates were off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from compress import container, loops
from compress.errors import OptionError
from compress.job import Job
from compress.rate_distortion import file
from compress.rate_distortion.attempts import Attempt
from compress.rate_distortion.file import Plan
from compress.rate_distortion.method import DEFAULT_ERROR, Gain, Rd
from compress.rate_distortion.search import Search
from compress.result import Written

#: About how often every value is coded or decoded, all attempts and layers together.
_PASSES = 30
#: How often the search is repeated with a margin, and how much that is beyond what was missed.
_TRIALS, _SAFE = 5, 1.0005
#: What is asked for is used to within this much.
_USED = 0.97


def write(job: Job, method: Rd, path: Path) -> Written:
    """Compress the task vector of a job into a file.

    Raises:
        OptionError: an option does not fit the adapter, or what is asked for cannot be reached.
        SourceError: the file of second moments is not valid.
    """
    loops.expect(_PASSES * job.vector.size)
    plan = file.make_plan(job, method)
    progress = _rising(job.vector.tell)
    written = _best_of_trials(job, plan, method, path, progress)
    unmet = _unmet(job, method, written)
    if unmet is None:
        return written
    if not method.by_default:
        raise unmet
    instead = replace(method, bits=None, max_error=DEFAULT_ERROR)
    written = _best_of_trials(job, plan, instead, path, progress)
    told = f"{method.bits:g} bits per parameter cannot be reached here"
    instead_told = f"{told}: an error of {DEFAULT_ERROR:g} was aimed at instead"
    return replace(written, warnings=(*written.warnings, instead_told))


def _rising(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Tell only progress that is more than what was told: searches may begin again."""
    told = -1.0

    def rising(done: int, total: int) -> None:
        nonlocal told
        if done / total > told:
            told = done / total
            tell(done, total)

    return rising


def _best_of_trials(
    job: Job, plan: Plan, method: Rd, path: Path, progress: Callable[[int, int], None]
) -> Written:
    """Search until what is measured is what is asked for, or comes no nearer to it."""
    search = Search(
        modules=plan.components,
        method=method,
        parameters=max(1, plan.parameters),
        overhead=lambda segments: file.overhead(job, plan, method, segments),
        progress=progress,
    )
    best: tuple[Attempt, Written] | None = None
    before = 0.0
    for _ in range(_TRIALS):
        attempt = search.run()
        written = file.write(job, plan, method, attempt, path)
        beyond = _beyond(job, method, written)
        if beyond <= 1 and (best is None or _lossy_bytes(written) < _lossy_bytes(best[1])):
            best = attempt, written
        # only calibrated errors, which the search follows, may be far above plain ones
        if beyond <= 1 and (beyond >= _USED or not (method.moments and method.max_error)):
            break
        if before and beyond > 1 and beyond > 0.999 * before:
            break
        before = beyond
        search = replace(search, margin=search.margin * beyond * _SAFE)
    if best is not None and best[1] is not written:
        return file.write(job, plan, method, best[0], path)
    return written


def _beyond(job: Job, method: Rd, written: Written) -> float:
    """Give by what factor the file is beyond what was asked for."""
    if method.bits is not None and method.max_module_error is None:
        return 8 * _lossy_bytes(written) / max(1.0, method.bits * job.vector.size)
    beyond = 0.0
    if method.gain is Gain.NONE:
        if method.max_error is not None:
            beyond = _error(written) / method.max_error
        if method.max_module_error is not None:
            beyond = max(beyond, _worst(written) / method.max_module_error)
    return beyond


def _lossy_bytes(written: Written) -> int:
    return sum(written.sizes[name] for name in ("header", container.INDEX, container.LAYERS))


def _error(written: Written) -> float:
    """Give the error of ΔW, or of what is no LoRA where there is nothing else."""
    energies = written.measured.delta or written.measured.vector
    return energies.error if energies is not None and energies.original else 0.0


def _worst(written: Written) -> float:
    return max((row.error or 0.0 for row in written.measured.rows), default=0.0)


def _unmet(job: Job, method: Rd, written: Written) -> OptionError | None:
    """Say what was asked for and is not reached."""
    size, lossy = max(1, job.vector.size), _lossy_bytes(written)
    if method.bits is not None and 8 * lossy > method.bits * size:
        return OptionError(
            "so few bits cannot be reached: names, config and something of every module",
            field="bits",
            expected=f"at least {8 * lossy / size + 0.0005:.3f} bits per parameter",
            actual=f"{method.bits:g}",
            hint="ask for more bits or for an error; --lossless may be as small",
        )
    limits = {"max_error": _error(written), "max_module_error": _worst(written)}
    for name, error in limits.items():
        limit = getattr(method, name)
        if limit is not None and error > limit and method.gain is Gain.NONE:
            return OptionError(
                "so small an error cannot be reached",
                field=name,
                expected=f"at least {error:.4g}",
                actual=f"{limit:g}",
                hint="the stored type of the weights rounds too; --lossless errs nothing",
            )
    return None
