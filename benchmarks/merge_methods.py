"""Merge real adapters that share a base by every method, and compare what comes out.

    python benchmarks/merge_methods.py [--data ../shared/data] [--repeats 3] [--quick]

Everything is measured on ΔW through its factors: how far the result is from the weighted sum, and
how much it disturbs each adapter on that adapter's own inputs, as WUDI (arXiv 2503.08099) has it.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

# Run as a file: the folder above holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.compeft_size import machine
from compress.dtypes import Array
from merge import METHODS, HeadPolicy, MergedModule, MergeError, Method, Recipe
from merge.compatibility import require_compatible
from merge.delta_space import Delta, inner, weighted_sum
from merge.expert import Expert, open_expert
from merge.merging import merged_modules

RESULTS = Path(__file__).resolve().parent / "results"
#: A merge that takes longer is not repeated.
SLOW_S = 5.0
REASON = "one base under several names"
QUICK_METHODS = ("linear", "ties", "tsv", "linear-factors", "slerp")
ABOUT = """# Every method on real adapters that share a base

Default weights and options. Of all modules together: *reduction* is ‖ΔW_full − ΔW‖ / ‖ΔW_full‖ of
the reduction of ranks; *from the sum* is ‖ΔW − Σ wᵢΔWᵢ‖ / ‖Σ wᵢΔWᵢ‖ with the method's own weights;
*norm* is ‖ΔW‖ as a share of the root mean square of ‖ΔWᵢ‖; *interference* is the mean over inputs
of ‖(ΔW − ΔWᵢ)ΔWᵢᵀ‖ / ‖ΔWᵢΔWᵢᵀ‖, 1 for ΔW = 0, also for λ ΔW with the λ at which its mean square is
least. Seconds: reading and merging, best of {repeats}, of 1 above {slow:g}.

{where}
"""
HEAD = (
    "| method | space | weights | rank | reduction | from the sum | norm | interference | "
    "at the best λ | best λ | seconds |"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Hold adapters that are merged with one another.

    Attributes:
        title: what they are.
        folders: below the folder of test data.
    """

    title: str
    folders: tuple[str, ...]


_CHAIN = tuple(f"adapters/gpt2-gurvineet-epoch{n}" for n in (1, 2, 3))
_EXPERTS = (
    "banking77",
    "clinc150",
    "mpqa",
    "mr-rt-polarity",
    "sst2",
    "subj",
    "trec6",
    "tweeteval-emotion",
    "tweeteval-hate",
)
GROUPS = (
    Group("gpt2, three revisions of one run", _CHAIN),
    Group(
        "gpt2, a run and another team's",
        (_CHAIN[2], "adapters/gpt2-cls-deepbiolab", "adapters/gpt2-gurvineet-ckptbest"),
    ),
    Group("experts of nine tasks", tuple(f"experts/{name}" for name in _EXPERTS)),
    Group(
        "experts of different ranks and modules",
        tuple(f"experts/{name}" for name in ("sst2-r16all", "trec6-lowlr", "subj")),
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what one merge gave.

    Attributes:
        rank: largest of a module.
        reduction: relative error of the reduction of ranks.
        from_sum: relative distance to the weighted sum.
        norm: ‖ΔW‖ over the root mean square of ‖ΔWᵢ‖.
        interference: mean over inputs.
        least: likewise at the best λ.
        best: this λ.
        seconds: best of all repetitions.
    """

    rank: int
    reduction: float
    from_sum: float
    norm: float
    interference: float
    least: float
    best: float
    seconds: float


def products(merged: Delta, own: Delta) -> Array:
    """Give ‖P‖², ⟨P, Pᵢ⟩ and ‖Pᵢ‖² of P = ΔW ΔWᵢᵀ and Pᵢ = ΔWᵢ ΔWᵢᵀ, through factors.

    Args:
        merged: ΔW of a module.
        own: ΔWᵢ of one input.
    """
    left = Delta((merged.a @ own.a.T) @ own.b.T, merged.b)
    right = Delta((own.a @ own.a.T) @ own.b.T, own.b)
    return np.array([inner(left, left), inner(left, right), inner(right, right)])


def interference(sums: Array, gain: float = 1.0) -> float:
    """Give the mean over inputs of ‖(λΔW − ΔWᵢ)ΔWᵢᵀ‖ / ‖ΔWᵢΔWᵢᵀ‖.

    Args:
        sums: float64 [n, 3] of `products`, over all modules.
        gain: λ.
    """
    whole, cross, own = sums.T
    squares = (gain**2 * whole - 2 * gain * cross + own) / own
    return float(np.sqrt(np.maximum(squares, 0)).mean())


def best_gain(sums: Array) -> float:
    """Give the λ at which the mean of the squares is least."""
    whole, cross, own = sums.T
    below = float((whole / own).sum())
    return float((cross / own).sum()) / below if below else 1.0


def measure(experts: Sequence[Expert], method: Method, repeats: int) -> Measured:
    """Merge some times and look at the result."""
    recipe = Recipe(method.name, heads=HeadPolicy.NONE, base_override=REASON)
    weights = recipe.check([None] * len(experts))
    seconds = math.inf
    for _ in range(repeats):
        if SLOW_S < seconds < math.inf:
            break
        started = time.perf_counter()
        modules = list(merged_modules(experts, weights, recipe))
        seconds = min(seconds, time.perf_counter() - started)
    return _look_at(modules, seconds)


def _look_at(modules: Sequence[MergedModule], seconds: float) -> Measured:
    count = len(modules[0].inputs)
    sums, norms = np.zeros((count, 3)), np.zeros(count)
    energy = dropped = whole = apart = total = 0.0
    for module in modules:
        plain = weighted_sum(list(zip(module.weights, module.inputs, strict=True)))
        energy, dropped = energy + module.energy, dropped + module.dropped
        whole += inner(module.delta, module.delta)
        total += inner(plain, plain)
        difference = weighted_sum([(1.0, module.delta), (-1.0, plain)])
        apart += inner(difference, difference)
        norms += [inner(own, own) for own in module.inputs]
        sums += [products(module.delta, own) for own in module.inputs]
    best = best_gain(sums)
    return Measured(
        rank=max(module.delta.rank for module in modules),
        reduction=math.sqrt(dropped / energy) if energy else 0.0,
        from_sum=math.sqrt(max(apart, 0.0) / total),
        norm=math.sqrt(whole / norms.mean()),
        interference=interference(sums),
        least=interference(sums, best),
        best=best,
        seconds=seconds,
    )


def rows(experts: Sequence[Expert], names: Iterable[str], repeats: int) -> Iterator[str]:
    """Merge by every method and write a row of each; a method of two takes the first two."""
    for name in names:
        method = METHODS[name]
        inputs = experts[: method.inputs[1]]
        label = name if len(inputs) == len(experts) else f"{name}, first {len(inputs)}"
        usual = str(method.usual)
        try:
            found = measure(inputs, method, repeats)
        except MergeError as error:
            yield f"| {label} | {method.space} | {usual} | refused: {error} |" + " |" * 7
            continue
        yield (
            f"| {label} | {method.space} | {usual} | {found.rank} | {found.reduction:.3f} | "
            f"{found.from_sum:.3f} | {found.norm:.3f} | {found.interference:.3f} | "
            f"{found.least:.3f} | {found.best:.2f} | {found.seconds:.2f} |"
        )


def table(data: Path, group: Group, names: Iterable[str], repeats: int) -> Iterator[str]:
    """Write the table of a group."""
    with ExitStack() as stack:
        experts = [stack.enter_context(open_expert(data / place)) for place in group.folders]
        require_compatible(experts, override=REASON)
        told = ", ".join(Path(place).name for place in group.folders)
        yield from (f"## {group.title}", "", f"{told}.", "", HEAD, "|---" * 11 + "|")
        for line in rows(experts, names, repeats):
            print(line, file=sys.stderr)
            yield line
        yield ""


def main() -> None:
    """Print the tables and write them to `results/merge_methods.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one group, few methods; no file")
    options = parser.parse_args()
    load, repeats = os.getloadavg()[0], 1 if options.quick else options.repeats
    groups, names = (GROUPS[-1:], QUICK_METHODS) if options.quick else (GROUPS, tuple(METHODS))
    tables = [line for g in groups for line in table(options.data, g, names, repeats)]
    where = f"{machine()}; load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    text = "\n".join([ABOUT.format(repeats=repeats, slow=SLOW_S, where=where), *tables])
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "merge_methods.md").write_text(text)


if __name__ == "__main__":
    main()
