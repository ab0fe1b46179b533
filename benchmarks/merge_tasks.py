"""Measure what merging leaves of the accuracy of real experts on their tasks.

    python benchmarks/merge_tasks.py [--data ../shared/data] [--store FILE] [--quick]

Experts of one encoder are merged by every method, as they are and after compression; the merged ΔW
is put on the encoder with each task's own head and run on that task's test rows: with the method's
defaults, and times the λ that is best on validation rows, as publications do. What is measured
stands in `merge_tasks_plan.py`; `--store` keeps it, so that a second run goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

# Run as a file: the folder above holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import compress
from benchmarks.compeft_size import machine
from benchmarks.merge_tasks_plan import (
    COMPEFT,
    FLOAT32,
    FULL,
    HEAD_ONLY,
    ORIGINAL,
    OWN,
    QUICK,
    RD,
    RD_BITS,
    SUMS,
    Job,
    Judged,
    Plan,
    Record,
    Store,
    best_gain,
    merges,
    singles,
)
from benchmarks.merge_tasks_table import report
from benchmarks.shared_encoder import Deltas, Rows, SharedEncoder, read_deltas
from benchmarks.task_accuracy import ALPHAS, DENSITIES
from merge import HeadPolicy, MergeError, Recipe
from merge.expert import open_expert
from merge.merging import merged_modules

RESULTS = Path(__file__).resolve().parent / "results"

#: Measures jobs and gives records as they are done.
Measure = Callable[[Iterable[Job]], Iterator[Record]]


@dataclass(frozen=True, slots=True)
class Setup:
    """Say where everything is that a process needs.

    Attributes:
        data: folder of experts and tasks.
        names: all experts.
        rows: that a task is judged on.
        compressed: folder of decoded experts, by source.
    """

    data: Path
    names: tuple[str, ...]
    rows: Rows
    compressed: Path

    def folder(self, source: str, name: str) -> Path:
        """Return the folder of an expert, as it was or decoded."""
        return (self.data / "experts" if source == ORIGINAL else self.compressed / source) / name


@cache
def encoder(setup: Setup, dtype: torch.dtype = torch.bfloat16) -> SharedEncoder:
    """Load the encoder once in each process."""
    torch.set_num_threads(1)
    return SharedEncoder(setup.data, setup.names, setup.rows, dtype)


def measure(setup: Setup, job: Job) -> Record:
    """Measure one expert alone, its best setting of ComPEFT, or a merge."""
    name = job.experts[0]
    if job.method == OWN and job.source == COMPEFT and job.option is None:
        return _choose(setup, job)
    if job.method not in {OWN, HEAD_ONLY, FLOAT32}:
        return _measure_merge(setup, job)
    model = encoder(setup, torch.float32 if job.method == FLOAT32 else torch.bfloat16)
    folder = setup.folder(job.source, name)
    model.put({} if job.method == HEAD_ONLY else read_deltas(folder))
    return Record(job, (model.test(name).accuracy,))


def decoded(source: Path, destination: Path, method: compress.Compeft | compress.Rd) -> float:
    """Compress an expert to a file and decode it to a folder; give bits per parameter."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    file = destination.with_name(destination.name + ".tern")
    found = compress.compress_adapter(source, file, method=method)
    compress.decompress(file, destination)
    return found.bits_per_param


def merged(setup: Setup, job: Job) -> Deltas:
    """Merge the LoRA parts of experts by the method's defaults."""
    options = dict([job.option]) if job.option else {}
    recipe = Recipe(job.method, options, heads=HeadPolicy.NONE)
    weights = recipe.check([None] * len(job.experts))
    with ExitStack() as stack:
        folders = [setup.folder(job.source, name) for name in job.experts]
        experts = [stack.enter_context(open_expert(folder)) for folder in folders]
        return {one.name: one.delta for one in merged_modules(experts, weights, recipe)}


def _choose(setup: Setup, job: Job) -> Record:
    """Choose density and alpha on validation rows: alpha scales A and B, so that ΔW has α²."""
    model, name = encoder(setup), job.experts[0]
    tried: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as work:
        for density in DENSITIES:
            folder = Path(work) / f"{density}"
            decoded(setup.folder(ORIGINAL, name), folder, compress.Compeft(density, 1.0))
            deltas = read_deltas(folder)
            for alpha in ALPHAS:
                model.put(deltas, alpha**2)
                found = model.validate(name)
                tried.append((-found.accuracy, found.loss, density, alpha))
    _, _, density, alpha = min(tried)
    return Record(job, curve=((density, alpha),))


def _measure_merge(setup: Setup, job: Job) -> Record:
    model, started = encoder(setup), time.monotonic()
    try:
        deltas = merged(setup, job)
    except MergeError as error:
        return Record(job, error=str(error))
    seconds = time.monotonic() - started

    def judge(gain: float) -> Judged:
        model.put(deltas, gain)
        found = [model.validate(name) for name in job.experts]
        accuracy, loss = ([getattr(one, a) for one in found] for a in ("accuracy", "loss"))
        return -statistics.mean(accuracy), statistics.mean(loss)

    fixed = job.option is not None and job.option[0] == "scale"
    factor = len(job.experts) if job.method in SUMS else 1
    tried = {1.0: (0.0, 0.0)} if fixed else best_gain(judge, factor)
    best, accuracies = next(iter(tried)), {}
    for gain in {1.0, best}:
        model.put(deltas, gain)
        accuracies[gain] = tuple(model.test(name).accuracy for name in job.experts)
    return Record(
        job,
        accuracies[1.0],
        accuracies[best],
        best,
        curve=tuple((gain, -accuracy) for gain, (accuracy, _) in sorted(tried.items())),
        rank=max(delta.rank for delta in deltas.values()),
        seconds=seconds,
    )


@contextmanager
def processes(setup: Setup, count: int) -> Iterator[Measure]:
    """Measure in so many processes, each with one thread; in this one where that is 1."""
    if count == 1:
        yield lambda wanted: (measure(setup, job) for job in wanted)
        return
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:

        def spread(wanted: Iterable[Job]) -> Iterator[Record]:
            futures = [pool.submit(measure, setup, job) for job in wanted]
            for future in as_completed(futures):
                yield future.result()

        yield spread


def run(plan: Plan, setup: Setup, store: Store, workers: int) -> None:
    """Measure all of a plan that the store does not have."""
    with processes(setup, workers) as spread:

        def fill(wanted: Iterable[Job]) -> None:
            missing, started = store.missing(wanted), time.monotonic()
            for done, record in enumerate(spread(missing), 1):
                store.add(record)
                passed = f"{time.monotonic() - started:.0f} s, {done} of {len(missing)}"
                print(passed, *record.job.experts, record.job.method, file=sys.stderr)

        fill(singles(plan))
        fill(Job(COMPEFT, OWN, (name,)) for name in plan.experts)
        for name in plan.experts:
            density, alpha = store.records[Job(COMPEFT, OWN, (name,))].curve[0]
            kinds = (
                (COMPEFT, ("density", density), compress.Compeft(density, alpha)),
                (RD, ("bits", RD_BITS), compress.Rd(bits=RD_BITS)),
            )
            for source, option, kind in kinds:
                bits = decoded(setup.folder(ORIGINAL, name), setup.folder(source, name), kind)
                job = Job(source, OWN, (name,), option)
                if job not in store.records:
                    store.add(replace(measure(setup, job), bits=bits))
        fill(merges(plan))


def main() -> None:
    """Print the tables and write them to `results/merge_tasks.md`."""
    options = arguments()
    plan, store = QUICK if options.quick else FULL, Store(options.store)
    started, load, known = time.monotonic(), os.getloadavg()[0], len(store.records)
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(options.data.resolve(), plan.names, plan.rows, Path(work))
        run(plan, setup, store, 1 if options.quick else options.workers)
    passed = time.monotonic() - started
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    where = (
        f"{machine()}, {packages}, processes of one thread; "
        f"load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end; {passed:.0f} s for "
        f"{len(store.records) - known} lines, and {known} from a store."
    )
    text = "\n".join([*report(store.records, plan, where), ""])
    print(text)
    out = options.out or (None if options.quick else RESULTS / "merge_tasks.md")
    if out is not None:
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


def arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--store", type=Path, help="JSON Lines file of what is measured already")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="two experts, a few rows; no file")
    parser.add_argument("--out", type=Path, help="where to write instead of results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
