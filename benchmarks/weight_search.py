"""Compare merges of experts for a task that none of them was trained on: weights searched or not.

    python -m benchmarks.weight_search [--data ../shared/data] [--tasks sst2 …] [--threads 2]

For each task the experts of other tasks are merged (sums of ΔW), as LoraHub does (arXiv
2307.13269), and run with the head of the task's own expert, whose ΔW takes no part. Weights are
searched on a hundred rows; accuracy is measured on the test rows that `task_accuracy` takes.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

# Run as a file: the folder above holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from api.forward.deltas import DeltaSlots
from api.forward.evaluate import encode, score
from api.forward.models import load
from api.workflows.search_curve import SearchOptions, SearchResult
from api.workflows.weight_search import LoadedTask, search
from benchmarks.compeft_size import machine
from benchmarks.task_accuracy import BASE, MAX_TOKENS, RESULTS, TEST_ROWS, task_rows
from merge import HeadPolicy, Recipe, WeightedAdapter, merge_adapters
from merge.delta_space import Delta
from merge.expert import Expert, open_expert
from merge.merging import merged_modules

#: In this order; the first four, or eight, that are not of the task itself.
POOL = (
    "mr-rt-polarity",
    "subj",
    "tweeteval-emotion",
    "trec6",
    "sst2",
    "mpqa",
    "banking77",
    "clinc150",
    "tweeteval-hate",
)
TASKS = ("sst2", "mr-rt-polarity", "mpqa", "subj", "tweeteval-emotion", "trec6")
COUNTS = (4, 8)
FEW_ROWS = 100
ABOUT = f"""# Weights of a merge, searched on {FEW_ROWS} rows

Experts of other tasks, merged as Σ wᵢ ΔWᵢ, with the head of the task's own expert: accuracy on at
most {{rows}} test rows, {MAX_TOKENS} tokens; one row is {{point:.2g}} points. Searched: {{steps}}
steps of COBYLA on {FEW_ROWS} validation rows (of train, which the head has seen, where there is no
validation file), loss + 0.05 · mean |w|, from the best of equal shares, zero and each expert alone;
s: how long it took, which other work on the machine makes longer. Best single: of the experts with
weight 1, the one whose loss on the same rows is least. Own expert: was trained on the whole task,
and takes no other part. {{where}}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what became of one task with so many experts.

    Attributes:
        task: the task.
        count: experts that were merged.
        accuracy: on test rows, by what was done, in the order of the table.
        found: the search.
        names: of the experts.
        seconds: that the search took.
    """

    task: str
    count: int
    accuracy: dict[str, float]
    found: SearchResult
    names: tuple[str, ...]
    seconds: float


class Bench:
    """Hold a model with slots for experts, the head of a task and its rows."""

    def __init__(self, data: Path, task: str, names: Sequence[str], rows: int) -> None:
        self._stack = ExitStack()
        folders = [data / "experts" / name for name in names]
        self._own = data / "experts" / task
        self._experts = [self._stack.enter_context(open_expert(folder)) for folder in folders]
        place = Path(self._stack.enter_context(tempfile.TemporaryDirectory())) / "slots"
        inputs = [WeightedAdapter(folder, 1.0) for folder in (self._own, *folders)]
        merge_adapters(inputs, place, Recipe(rank=1, heads=HeadPolicy.FIRST))
        loaded = load(BASE, place)
        test, held_out, labels = task_rows(data / "tasks" / task, rows)
        few = random.Random(0).sample(held_out, min(FEW_ROWS, len(held_out)))
        tokens = partial(encode, loaded, labels=labels, max_tokens=MAX_TOKENS)
        self.few, self.test = LoadedTask(loaded, tokens(few)), LoadedTask(loaded, tokens(test))
        self._slots = DeltaSlots(loaded)

    def close(self) -> None:
        """Close the experts and remove what was written."""
        self._stack.close()

    def merge(self, weights: Sequence[float]) -> Iterator[tuple[str, Delta]]:
        """Merge the experts."""
        return _modules(self._experts, weights)

    def accuracy(self, weights: Sequence[float]) -> float:
        """Measure a merge on test rows."""
        self._slots.fill(self.merge(weights))
        return score(self.test.loaded, self.test.batches).accuracy

    def few_loss(self, weights: Sequence[float]) -> float:
        """Measure a merge on the few rows."""
        self._slots.fill(self.merge(weights))
        return score(self.few.loaded, self.few.batches).loss

    def ceiling(self) -> float:
        """Measure the task's own expert on test rows."""
        with open_expert(self._own) as own:
            self._slots.fill(_modules([own], [1.0]))
        return score(self.test.loaded, self.test.batches).accuracy


def _modules(experts: Sequence[Expert], weights: Sequence[float]) -> Iterator[tuple[str, Delta]]:
    for module in merged_modules(experts, weights, Recipe()):
        yield module.name, module.delta


def outcome(bench: Bench, task: str, names: Sequence[str], options: SearchOptions) -> Outcome:
    """Search weights for a task, and measure what they and others give."""
    count = len(names)
    equal = (1 / count,) * count
    alone = [tuple(float(i == at) for i in range(count)) for at in range(count)]
    best = min(alone, key=bench.few_loss)
    started = time.monotonic()
    found = search(bench.merge, equal, bench.few, options=options)
    seconds = time.monotonic() - started
    accuracy = {
        "head only": bench.accuracy((0.0,) * count),
        "equal shares": bench.accuracy(equal),
        "all with weight 1": bench.accuracy((1.0,) * count),
        "best single": bench.accuracy(best),
        "searched": bench.accuracy(found.weights),
        "own expert": bench.ceiling(),
    }
    return Outcome(task, count, accuracy, found, tuple(names), seconds)


def report(outcomes: Sequence[Outcome]) -> list[str]:
    """Write the tables."""
    kinds = list(outcomes[0].accuracy)
    lines = [f"| task | experts | {' | '.join(kinds)} | s |", "|---" * (3 + len(kinds)) + "|"]
    for item in outcomes:
        cells = " | ".join(f"{item.accuracy[kind]:.3f}" for kind in kinds)
        lines.append(f"| {item.task} | {item.count} | {cells} | {item.seconds:.0f} |")
    for count in sorted({item.count for item in outcomes}):
        same = [item for item in outcomes if item.count == count]
        means = (statistics.mean(item.accuracy[kind] for item in same) for kind in kinds)
        cells = " | ".join(f"**{mean:.3f}**" for mean in means)
        seconds = statistics.mean(item.seconds for item in same)
        lines.append(f"| mean | {count} | {cells} | {seconds:.0f} |")
    lines += ["", "| task | loss on the few rows | weights |", "|---|---|---|"]
    for item in outcomes:
        before, after = item.found.before.loss, item.found.after.loss
        pairs = zip(item.names, item.found.weights, strict=True)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in pairs)
        lines.append(f"| {item.task} | {before:.3f} → {after:.3f} | {weights} |")
    return lines


def main() -> None:
    """Measure, and write the tables to `results/weight_search.md` after every task."""
    options = arguments()
    torch.set_num_threads(options.threads)
    settings = SearchOptions(steps=options.steps)
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "peft", "scipy"))
    where = f"{machine()}, {packages}, threads: {options.threads}."
    told = ABOUT.format(
        rows=options.rows, point=100 / options.rows, steps=options.steps, where=where
    )
    outcomes, text = [], told
    for task in options.tasks:
        pool = [name for name in POOL if name != task]
        for count in COUNTS:
            bench = Bench(options.data, task, pool[:count], options.rows)
            outcomes.append(outcome(bench, task, pool[:count], settings))
            bench.close()
            print(task, count, outcomes[-1].accuracy, file=sys.stderr)
        text = "\n".join([told, *report(outcomes), ""])
        RESULTS.mkdir(exist_ok=True)
        (options.out or RESULTS / "weight_search.md").write_text(text)
    print(text)


def arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--steps", type=int, default=SearchOptions().steps)
    parser.add_argument("--rows", type=int, default=TEST_ROWS, help="test rows of a task")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write instead of results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
