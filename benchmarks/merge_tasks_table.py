"""Write the page of `merge_tasks.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.merge_tasks_plan import (
    COMPEFT,
    FLOAT32,
    HEAD_ONLY,
    LAMBDAS,
    ORIGINAL,
    OWN,
    RD,
    RD_BITS,
    SUMS,
    Job,
    Plan,
    Record,
    root,
)
from merge import METHODS, Recipe
from merge.method import Space

ABOUT = """# Accuracy that merged experts keep

Experts of one encoder (all-MiniLM-L6-v2) are merged, the merged ΔW is put on the encoder with each
task's own head and run on that task's test rows, at most {test}, the same ones always. *Kept* is
the mean over the merged tasks of accuracy ÷ accuracy of the task's own expert. *Default*: weights,
options and λ = 1 as without being asked. *Tuned*: ΔW times that λ of {lambdas}
with the best mean accuracy on {validation} validation rows of each task: .2, .5 and 1 are tried,
then those beside the best until it stays. Where weights are 1/n by default ({sums})
λ is that of the sum, so 1 stands for weights of 1. Sets: {sets}, the same for all;
± is the standard deviation over sets, which also differ in difficulty. `cat` has the ΔW of
`linear`. The encoder is held in bfloat16. One row of {test} is {row:.1f} points.

{where}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Look up what was measured.

    Attributes:
        records: by job.
        plan: that they belong to.
    """

    records: Mapping[Job, Record]
    plan: Plan

    def accuracy(self, name: str, method: str = OWN) -> float:
        """Return that of an original expert alone."""
        return self.records[Job(ORIGINAL, method, (name,))].plain[0]

    def shares(self, job: Job, *, tuned: bool) -> list[float]:
        """Return what each task of a merge keeps; nothing where there is no merge."""
        record = self.records.get(job)
        values = () if record is None else record.tuned if tuned else record.plain
        names = job.experts[: len(values)]
        return [v / self.accuracy(n) for v, n in zip(values, names, strict=True)]

    def kept(self, like: Job, size: int, *, tuned: bool) -> list[float]:
        """Return the mean share of each set of a size, of jobs that differ in the set alone."""
        jobs = self.jobs(like, size)
        shares = [self.shares(job, tuned=tuned) for job in jobs]
        return [statistics.mean(own) for own in shares if own]

    def jobs(self, like: Job, size: int) -> list[Job]:
        """Return the jobs of all sets of a size."""
        return [Job(like.source, like.method, s, like.option) for s in self.plan.sets(size)]

    def gain(self, like: Job, size: int) -> float | None:
        """Return the median of the best λ, of sums for weights of 1."""
        known = [self.records[job] for job in self.jobs(like, size) if job in self.records]
        whole = size if like.method in SUMS else 1
        return statistics.median(r.gain / whole for r in known) if known else None


def report(records: Mapping[Job, Record], plan: Plan, where: str) -> list[str]:
    """Write all tables.

    Args:
        records: all that the plan asks for.
        plan: what was measured.
        where: machine, versions and load.
    """
    found = Found(records, plan)
    about = ABOUT.format(
        test=plan.rows.test,
        validation=plan.rows.validation,
        lambdas=", ".join(f"{value:g}" for value in LAMBDAS),
        sums=", ".join(name for name in plan.methods if name in SUMS),
        sets=", ".join(f"{draws} × {size} experts" for size, draws in plan.draws),
        row=100 / plan.rows.test,
        where=where,
    )
    writers = (alone, methods, roots, mixed, options, compressed)
    parts = (write(found) for write in writers)
    return [about, *(line for part in parts for line in part)]


def alone(found: Found) -> Iterator[str]:
    """Write what every expert does alone."""
    yield "## Experts alone"
    yield ""
    columns = f"{COMPEFT}: setting, bits, kept | {RD} {RD_BITS:g} bits: bits, kept"
    yield f"| expert | accuracy | in float32 | head only | {columns} |"
    yield "|---" * 6 + "|"
    for name in found.plan.names:
        own = found.accuracy(name)
        cells = [_alone(found, source, name) for source in (COMPEFT, RD)]
        told = f"{own:.3f} | {found.accuracy(name, FLOAT32):.3f}"
        bare = found.accuracy(name, HEAD_ONLY)
        yield f"| {name} | {told} | {bare:.3f} | {cells[0]} | {cells[1]} |"
    yield ""


def _alone(found: Found, source: str, name: str) -> str:
    chosen = found.records.get(Job(COMPEFT, OWN, (name,)))
    if chosen is None:
        return "–"
    density, alpha = chosen.curve[0]
    option = ("density", density) if source == COMPEFT else ("bits", RD_BITS)
    record = found.records[Job(source, OWN, (name,), option)]
    setting = f"{density:.0%} alpha {alpha:g}, " if source == COMPEFT else ""
    return f"{setting}{record.bits:.2f}, {record.plain[0] / found.accuracy(name):.1%}"


def methods(found: Found) -> Iterator[str]:
    """Write what every method keeps, the best first."""
    sizes = found.plan.sizes
    yield "## Methods"
    yield ""
    yield "Sorted by the mean of the tuned columns. The last column compares with `linear` tuned:"
    yield "the mean difference in points over all sets, ± its standard error."
    yield ""
    columns = [f"n = {n}: default | tuned | median λ" for n in sizes]
    yield f"| method | space | weights | {' | '.join(columns)} | mean tuned | less `linear` |"
    yield "|---" * (5 + 3 * len(sizes)) + "|"
    yield _head_only(found)
    for name in sorted(found.plan.methods, key=lambda name: -_mean(found, name)):
        yield _method_row(found, name)
    yield ""


def _head_only(found: Found) -> str:
    cells = []
    for size in found.plan.sizes:
        kept = [
            statistics.mean(found.accuracy(n, HEAD_ONLY) / found.accuracy(n) for n in drawn)
            for drawn in found.plan.sets(size)
        ]
        cells.append(f"{_spread(kept)} |  | ")
    return f"| ΔW = 0 |  |  | {' | '.join(cells)} |  |  |"


def _method_row(found: Found, name: str) -> str:
    row, cells, like = METHODS[name], [], Job(ORIGINAL, name, ())
    for size in found.plan.sizes:
        default, tuned = (found.kept(like, size, tuned=way) for way in (False, True))
        cells.append(f"{_spread(default)} | {_spread(tuned)} | {_gain(found.gain(like, size))}")
    weights = str(row.usual)
    mean, less = _mean(found, name), _less_linear(found, name)
    told = "–" if math.isinf(mean) else f"{mean:.1%}"
    return f"| {name} | {row.space} | {weights} | {' | '.join(cells)} | {told} | {less} |"


def _mean(found: Found, name: str) -> float:
    """Average the tuned columns, where there are all of them."""
    kept = [found.kept(Job(ORIGINAL, name, ()), n, tuned=True) for n in found.plan.sizes]
    return statistics.mean(map(statistics.mean, kept)) if all(kept) else -math.inf


def _less_linear(found: Found, name: str) -> str:
    differences: list[float] = []
    for size in found.plan.sizes:
        ours = found.kept(Job(ORIGINAL, name, ()), size, tuned=True)
        theirs = found.kept(Job(ORIGINAL, "linear", ()), size, tuned=True)
        differences += [a - b for a, b in zip(ours, theirs, strict=True)] if ours else []
    return _points(differences)


def mixed(found: Found) -> Iterator[str]:
    """Write what is kept of experts of different ranks and modules."""
    drawn = found.plan.mixed
    if not drawn:
        return
    yield from ("## Different ranks and target modules", "", f"{', '.join(drawn)}.", "")
    yield from ("| method | rank | default | 1/√n | tuned | λ |", "|---|---|---|---|---|---|")
    known = [found.records.get(Job(ORIGINAL, name, drawn)) for name in found.plan.methods]
    there = [record for record in known if record is not None]
    done = [r for r in there if not r.error]
    for record in sorted(done, key=lambda r: -statistics.mean(found.shares(r.job, tuned=True))):
        default, tuned = (
            statistics.mean(found.shares(record.job, tuned=way)) for way in (False, True)
        )
        middle = _spread(found.shares(root(record.job.method, drawn), tuned=False)).split(" ±")[0]
        gain = record.gain / (len(drawn) if record.job.method in SUMS else 1)
        told = f"{record.rank} | {default:.1%} | {middle} | {tuned:.1%} | {gain:.2g}"
        yield f"| {record.job.method} | {told} |"
    yield from ("", f"Refused: {', '.join(r.job.method for r in there if r.error) or 'none'}.", "")


def options(found: Found) -> Iterator[str]:
    """Write what other values of options than the default keep."""
    if not found.plan.sweep:
        return
    size = found.plan.sweep_size
    yield from (f"## Options, n = {size}", "", "| method | option | default λ | tuned | median λ |")
    yield "|---|---|---|---|---|"
    for name, option, others in found.plan.sweep:
        usual = getattr(Recipe(name).settled, option)
        for value in sorted({usual, *others}):
            like = Job(ORIGINAL, name, (), None if value == usual else (option, value))
            default, tuned = (found.kept(like, size, tuned=way) for way in (False, True))
            mark = " (default)" if value == usual else ""
            told = f"{_spread(default)} | {_spread(tuned)} | {_gain(found.gain(like, size))}"
            yield f"| {name} | {option} {value:g}{mark} | {told} |"
    yield ""


def roots(found: Found) -> Iterator[str]:
    """Write what λ = 1/√n keeps, beside the default λ and the tuned one."""
    sizes = found.plan.sizes
    yield from ("## λ = 1/√n, for those without validation rows", "")
    columns = [f"n = {n}: default | 1/√n | tuned" for n in sizes]
    yield f"| method | {' | '.join(columns)} | mean: default | 1/√n | tuned |"
    yield "|---" * (4 + 3 * len(sizes)) + "|"
    for name in found.plan.roots:
        kept = [_three(found, name, size) for size in sizes]
        cells = [_spread([share]) for three in kept for share in three]
        means = [statistics.mean(three[way] for three in kept) for way in range(3)]
        yield f"| {name} | {' | '.join([*cells, *(f'{mean:.1%}' for mean in means)])} |"
    yield ""


def _three(found: Found, name: str, size: int) -> tuple[float, float, float]:
    like = Job(ORIGINAL, name, ())
    default, tuned = (statistics.mean(found.kept(like, size, tuned=way)) for way in (False, True))
    jobs = [root(name, drawn) for drawn in found.plan.sets(size)]
    middle = [statistics.mean(found.shares(job, tuned=False)) for job in jobs]
    return default, statistics.mean(middle), tuned


def compressed(found: Found) -> Iterator[str]:
    """Write what merges of compressed experts keep, and in how many settings that is more."""
    yield from ("## Compressed experts", "")
    yield f"As without compression, by {COMPEFT} (density and alpha chosen for each expert on"
    yield f"validation rows) and by {RD} at {RD_BITS:g} bits. On factors TIES does not trim what"
    yield f"{COMPEFT} has made sparse, as the publication has it. Differences in points, ± the"
    yield "standard error over all tasks of all sets. The publication has compressed experts better"
    yield "in 9 of 12 settings (arXiv 2311.13171)."
    yield ""
    columns = [f"{way}: {ORIGINAL} | {COMPEFT} | {RD}" for way in ("default", "tuned")]
    yield f"| method | n | {' | '.join(columns)} | tuned: {COMPEFT} less | {RD} less |"
    yield "|---" * 10 + "|"
    settings = [(name, size) for name in found.plan.compared for size in found.plan.sizes]
    for name, size in settings:
        cells = [
            f"{statistics.mean(found.kept(_like(source, name), size, tuned=way)):.1%}"
            for way in (False, True)
            for source in (ORIGINAL, COMPEFT, RD)
        ]
        less = [_points(_differences(found, s, name, size, tuned=True)) for s in (COMPEFT, RD)]
        yield f"| {name} | {size} | {' | '.join(cells)} | {' | '.join(less)} |"
    yield from ("", "In how many settings merges of compressed experts are better:", "")
    for source in (COMPEFT, RD):
        for tuned in (True, False):
            yield _verdict(found, source, settings, tuned=tuned)
    in_whole = [(name, size) for name, size in settings if METHODS[name].space is Space.DELTA]
    for source in (COMPEFT, RD):
        yield _verdict(found, source, in_whole, tuned=True) + " In ΔW space only."


def _like(source: str, name: str) -> Job:
    whole = source == COMPEFT and name == "ties-factors"
    return Job(source, name, (), ("density", 1.0) if whole else None)


def _differences(found: Found, source: str, name: str, size: int, *, tuned: bool) -> list[float]:
    """Give what each task of each set keeps more after compression."""
    found_pairs: list[float] = []
    for ours, theirs in zip(
        found.jobs(_like(source, name), size), found.jobs(_like(ORIGINAL, name), size), strict=True
    ):
        pair = (found.shares(ours, tuned=tuned), found.shares(theirs, tuned=tuned))
        found_pairs += [a - b for a, b in zip(*pair, strict=True)]
    return found_pairs


def _verdict(found: Found, source: str, settings: Sequence[tuple[str, int]], *, tuned: bool) -> str:
    """Say in how many settings compressed experts merge better, and how sure that is."""
    means = [
        statistics.mean(_differences(found, source, name, size, tuned=tuned))
        for name, size in settings
    ]
    better, worse = sum(m > 0 for m in means), sum(m < 0 for m in means)
    by_set = [
        statistics.mean(
            a - b
            for name in dict(settings)
            for a, b in zip(
                found.shares(_with(_like(source, name), drawn), tuned=tuned),
                found.shares(_with(_like(ORIGINAL, name), drawn), tuned=tuned),
                strict=True,
            )
        )
        for size in found.plan.sizes
        for drawn in found.plan.sets(size)
    ]
    way = "λ tuned" if tuned else "defaults"
    told = f"better in {better} of {len(means)} settings, worse in {worse}"
    sure = f"sign test p = {sign_test(better, worse):.2f}"
    return f"- {source}, {way}: {told} ({sure}); {_points(by_set)} points, by {len(by_set)} sets."


def _with(like: Job, drawn: tuple[str, ...]) -> Job:
    return Job(like.source, like.method, drawn, like.option)


def sign_test(better: int, worse: int) -> float:
    """Give the two-sided p of so many signs if both were equally likely."""
    count, most = better + worse, max(better, worse)
    tail = sum(math.comb(count, k) for k in range(most, count + 1))
    return min(1.0, math.ldexp(tail, 1 - count))


def _gain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    told = f"{statistics.mean(values):.1%}"
    return f"{told} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else told


def _points(values: Sequence[float]) -> str:
    if not values:
        return "–"
    told = f"{100 * statistics.mean(values):+.1f}"
    if len(values) < 2:
        return told
    return f"{told} ± {100 * statistics.stdev(values) / math.sqrt(len(values)):.1f}"
