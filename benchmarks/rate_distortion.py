"""Compare methods by bits and error of ΔW with each other and with the water-filling bound.

    OMP_NUM_THREADS=1 python benchmarks/rate_distortion.py [--data ../shared/data] [--only NAME …]

Every real adapter once (of byte-identical ones only the first), every baseline of
`benchmarks/baselines` at all its settings, and `rd` where this version has it. Results of all
methods go to `results/rate_distortion.md`; with `--only` they are printed and not kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A script finds only its own folder; the baselines are imported from the root above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import compress
from benchmarks.baselines import BASELINES, Adapter, Approximation, Baseline, read_adapter
from benchmarks.baselines.interface import Sweep
from benchmarks.baselines.table import Row, adapter_table, aims, summary_table
from benchmarks.baselines.tern_files import through_tern
from benchmarks.compeft_size import machine
from compress.adapter import open_adapter
from compress.water_filling import error_bound, spectrum

RESULTS = Path(__file__).resolve().parent / "results"
RD_BITS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
PREFACE = """# Rate and distortion: every method on the same adapters

Bits per parameter: what a file holds for the LoRA part, ÷ elements of all A and B. Of a `.tern`
file (compeft, rd) all bytes but the exactly kept ones, less 1 KiB for header, names and config; on
small adapters these take less, so compeft seems a little cheaper than STC with the same positions.
Of the others no header at all: STC's trits as this project's entropy coder writes them, BitDelta
and LoRAQuant packed as published ("deflated": with Huffman coding on top, which the paper does not
do), int8 and int4 packed or deflated, whichever is smaller; float16 for every scale and for SVD's
factors.

Error: relative Frobenius error of ΔW over the adapter, of the values as a decoder gives them.
Bound: reverse water-filling of the adapter's own spectrum at these bits; it holds for coders that
treat singular directions as unstructured. Erased: modules that had an effect and whose own error is
0.999 or more. Seconds: processor time of compressing (for `.tern` files also of reading back), the
search for alpha included. Of byte-identical adapters only the first is measured.

compeft takes the alpha of 0.5, 1, 2, 3, 4, 5, 6, 8, 10 with the least error of ΔW; accuracy may
prefer another one. BitDelta has untrained scales. LoRAQuant-like lacks the gradient refinement of
the paper; "refined" chooses the range of every group for the least error instead."""


@dataclass(frozen=True, slots=True)
class RateDistortion:
    """Take this project's own method at a rate.

    Attributes:
        options: makes the method's options from `bits`.
        bits: per LoRA parameter.
    """

    options: Callable[..., Any]
    bits: float

    @property
    def label(self) -> str:
        """Name it: rd 0.5."""
        return f"rd {self.bits:g}"

    def compress(self, adapter: Adapter) -> Approximation:
        """Go through a real file."""
        return through_tern(adapter, self.options(bits=self.bits))


def methods() -> tuple[Baseline, ...]:
    """List what is measured: all baselines, and `rd` once the room of compression has it."""
    options: Callable[..., Any] | None = getattr(compress, "Rd", None)
    if options is None:
        return BASELINES
    rd = Sweep("rd", lambda _: (RateDistortion(options, bits) for bits in RD_BITS))
    return (rd, *BASELINES)


def distinct(folders: Iterable[Path]) -> Iterator[Path]:
    """Pass over adapters whose weights came before, byte for byte."""
    seen = set()
    for folder in folders:
        with open_adapter(folder) as source:
            digest = source.weights.sha256()
        if digest not in seen:
            seen.add(digest)
            yield folder


def measured(adapter: Adapter, baselines: Sequence[Baseline]) -> Iterator[Row]:
    """Measure everything on one adapter."""
    components = spectrum(adapter.modules.values())
    for baseline in baselines:
        for point in baseline.rows(adapter):
            bound = error_bound(components, point.bits_per_param)
            yield Row(adapter.path.name, baseline.name, point, bound)


def report(folders: Iterable[Path], baselines: Sequence[Baseline]) -> str:
    """Measure all adapters and write the page."""
    everything, tables = list[Row](), list[str]()
    for folder in folders:
        adapter = read_adapter(folder)
        rows = list(measured(adapter, baselines))
        everything += rows
        head = f"{adapter.parameters:,} LoRA parameters, {len(adapter.modules)} modules"
        tables += ["", f"## {folder.name}", "", f"{head}.", "", *adapter_table(rows)]
        print(f"{folder.name}: {len(rows)} points", file=sys.stderr)
    intro = [PREFACE, "", f"{machine()}.", "", "## All adapters together", ""]
    means = "Geometric means over the adapters; erased modules and seconds are added up."
    lines = [*intro, means, "", *summary_table(everything), "", *aims(everything), *tables]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page and write it to `results/rate_distortion.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    names = [baseline.name for baseline in methods()]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    folders = sorted([*options.data.glob("adapters/*"), *options.data.glob("experts/*")])
    chosen = [b for b in methods() if options.only is None or b.name in options.only]
    text = report(distinct(folders), chosen)
    print(text)
    if options.only is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "rate_distortion.md").write_text(text)


if __name__ == "__main__":
    main()
