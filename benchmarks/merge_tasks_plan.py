"""Say which merges `merge_tasks.py` measures, and hold what it finds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shared_encoder import Rows
from merge import METHODS, Method

ORIGINAL, COMPEFT, RD = "original", "compeft", "rd"
OWN, HEAD_ONLY, FLOAT32 = "own", "head only", "float32"
RD_BITS = 0.5
#: What λ is judged by on validation rows: less the mean accuracy, then the mean loss.
Judged = tuple[float, float]
#: Factors tried on validation rows.
LAMBDAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
#: With the usual weights 1/n these are sums: publications tune λ of the sum, not of the mean.
SUMS = frozenset(
    {
        "linear",
        "svd",
        "dare_linear",
        "breadcrumbs",
        "magnitude_prune",
        "linear-factors",
        "dare_linear-factors",
        "breadcrumbs-factors",
        "magnitude_prune-factors",
        "mhr_mu",
    }
)
#: Those of ComPEFT's table, in both spaces.
COMPARED = ("linear", "linear-factors", "ties", "ties-factors")


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what is to be measured.

    Attributes:
        experts: from which sets are drawn.
        mixed: a set of different ranks and target modules, or nothing.
        draws: how many are merged, and how many sets of so many.
        methods: all names of them.
        compared: methods that also merge compressed experts.
        sweep: other values of an option of a method, tried on sets of `sweep_size`.
        sweep_size: how many experts these sets have.
        roots: methods that are also tried with λ = 1/√n, which needs no rows to tune on.
        rows: that a task is judged on.
    """

    experts: tuple[str, ...]
    mixed: tuple[str, ...]
    draws: tuple[tuple[int, int], ...]
    methods: tuple[str, ...]
    compared: tuple[str, ...]
    sweep: tuple[tuple[str, str, tuple[float, ...]], ...]
    sweep_size: int
    roots: tuple[str, ...]
    rows: Rows

    @property
    def names(self) -> tuple[str, ...]:
        """Return all experts."""
        return tuple(dict.fromkeys([*self.experts, *self.mixed]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many are merged."""
        return tuple(size for size, _ in self.draws)

    def sets(self, size: int) -> list[tuple[str, ...]]:
        """Draw sets of experts, the same ones every time, in which all occur about equally often.

        The experts are shuffled into a ring; each set is an arc of it.
        """
        ring = list(self.experts)
        random.Random(size).shuffle(ring)
        draws = dict(self.draws)[size]
        starts = [draw * (len(ring) // draws) for draw in range(draws)]
        return [
            tuple(sorted(ring[(start + at) % len(ring)] for at in range(size))) for start in starts
        ]


#: `cat` is left out: its ΔW is that of `linear`.
FULL = Plan(
    experts=(
        "banking77",
        "clinc150",
        "mpqa",
        "mr-rt-polarity",
        "sst2",
        "subj",
        "trec6",
        "tweeteval-emotion",
        "tweeteval-hate",
    ),
    mixed=("sst2-r16all", "trec6-lowlr", "subj", "tweeteval-emotion"),
    draws=((2, 3), (4, 3), (8, 1)),
    methods=tuple(name for name in METHODS if name != "cat"),
    compared=COMPARED,
    sweep=(
        ("ties", "density", (0.1, 0.5)),
        ("knots", "density", (0.5, 1.0)),
        ("core", "density", (0.5, 1.0)),
        ("wudi", "ridge", (0.0, 0.1)),
        ("breadcrumbs", "density", (0.5,)),
        ("magnitude_prune", "density", (0.2,)),
        ("dare_linear", "density", (0.8,)),
        ("dare_ties", "density", (0.8,)),
        ("della", "density", (0.8,)),
    ),
    sweep_size=4,
    roots=(
        "linear",
        "multislerp",
        "tsv",
        "iso",
        "wudi",
        "lego",
        "knots",
        "core",
        "ties",
        "dare_ties",
        "della",
    ),
    rows=Rows(150, 40),
)
QUICK = Plan(
    experts=("mpqa", "trec6"),
    mixed=(),
    draws=((2, 1),),
    methods=("linear", "tsv"),
    compared=("linear", "ties-factors"),
    sweep=(),
    sweep_size=2,
    roots=("tsv",),
    rows=Rows(24, 8),
)


@dataclass(frozen=True, slots=True)
class Job:
    """Name one line to measure.

    Attributes:
        source: which form of the experts is merged.
        method: of the table of methods, or what is measured of one expert.
        experts: whose folders go in, and whose tasks are run.
        option: name and value of one that is not the default, or None.
    """

    source: str
    method: str
    experts: tuple[str, ...]
    option: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Hold what was measured of a job.

    Attributes:
        job: what was asked for.
        plain: accuracy on each task with the method's defaults.
        tuned: likewise, times `gain`.
        gain: λ that was best on validation rows; the chosen alpha of a compressed expert.
        curve: each λ that was tried with its mean accuracy on validation rows.
        rank: largest of the merged modules.
        seconds: that the merge took.
        bits: per parameter of a compressed expert.
        error: why there is no merge, or empty.
    """

    job: Job
    plain: tuple[float, ...] = ()
    tuned: tuple[float, ...] = ()
    gain: float = 1.0
    curve: tuple[tuple[float, float], ...] = ()
    rank: int = 0
    seconds: float = 0.0
    bits: float = 0.0
    error: str = ""


def best_gain(judge: Callable[[float], Judged], factor: int = 1) -> dict[float, Judged]:
    """Search λ coarsely, then beside the best until it stays; give all tried, the best first.

    Args:
        judge: gives what is least for the best λ.
        factor: of all λ.
    """
    tried: dict[float, Judged] = {}
    ahead = {1, 3, 5}
    while ahead:
        tried |= {factor * LAMBDAS[at]: judge(factor * LAMBDAS[at]) for at in sorted(ahead)}
        best = min(tried, key=lambda gain: tried[gain])
        at = next(n for n, gain in enumerate(LAMBDAS) if factor * gain == best)
        beside = {at - 1, at + 1} & set(range(len(LAMBDAS)))
        ahead = {n for n in beside if factor * LAMBDAS[n] not in tried}
    return dict(sorted(tried.items(), key=lambda item: item[1]))


def singles(plan: Plan) -> Iterator[Job]:
    """Give what is measured of each original expert alone."""
    for method in (OWN, HEAD_ONLY, FLOAT32):
        yield from (Job(ORIGINAL, method, (name,)) for name in plan.names)


def merges(plan: Plan) -> Iterator[Job]:
    """Give all merges, the largest first: of originals, of compressed ones, of other densities."""
    sets = [drawn for size in sorted(plan.sizes, reverse=True) for drawn in plan.sets(size)]
    compared = [(name, drawn) for drawn in sets for name in plan.compared]
    for drawn in sets:
        yield from (Job(ORIGINAL, name, drawn) for name in plan.methods if fits(name, len(drawn)))
    yield from (Job(ORIGINAL, name, drawn) for name, drawn in compared if name not in plan.methods)
    for source in (COMPEFT, RD):
        for name, drawn in compared:
            # The publication does not trim again what is sparse already.
            whole = source == COMPEFT and name == "ties-factors"
            yield Job(source, name, drawn, ("density", 1.0) if whole else None)
    if plan.mixed:
        alone = [n for n in plan.methods if "slerp" not in n and fits(n, len(plan.mixed))]
        yield from (Job(ORIGINAL, name, plan.mixed) for name in alone)
    for name, option, values in plan.sweep:
        for drawn in plan.sets(plan.sweep_size):
            yield from (Job(ORIGINAL, name, drawn, (option, value)) for value in values)
    every = [*sets, plan.mixed] if plan.mixed else sets
    yield from (root(name, drawn) for drawn in every for name in plan.roots)


def root(name: str, drawn: tuple[str, ...]) -> Job:
    """Give the merge whose λ is 1/√n; that of a mean, √n, makes the same of its sum."""
    power = 0.5 if name in SUMS else -0.5
    return Job(ORIGINAL, name, drawn, ("scale", float(len(drawn) ** power)))


def fits(name: str, count: int) -> bool:
    """Say whether a method takes so many adapters."""
    method: Method = METHODS[name]
    return method.inputs[0] <= count <= method.inputs[1]


class Store:
    """Keep records in a JSON Lines file, if there is one.

    Attributes:
        path: the file, or None.
        records: by job.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.records = {record.job: record for record in map(_record, lines)}

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records[record.job] = record
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(record)) + "\n")

    def missing(self, wanted: Iterable[Job]) -> list[Job]:
        """Give the jobs that are not yet done, each once."""
        return [job for job in dict.fromkeys(wanted) if job not in self.records]


def _record(line: str) -> Record:
    told = json.loads(line)
    job = told.pop("job")
    job["experts"] = tuple(job["experts"])
    job["option"] = job["option"] and tuple(job["option"])
    for name in ("plain", "tuned"):
        told[name] = tuple(told[name])
    told["curve"] = tuple((gain, accuracy) for gain, accuracy in told["curve"])
    return Record(Job(**job), **told)
