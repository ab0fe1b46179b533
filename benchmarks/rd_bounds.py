"""Hold the method rd to its bounds on every sample adapter.

    python benchmarks/rd_bounds.py [--bits 0.25 0.5 1 2]

Of every adapter and rate: bits reached, bytes of the compressed part against the Shannon bound of
its own symbols (what is over 1.01 times above a million parameters, or 1.03 times below, plus
1 KiB, is marked), the error of ΔW against the water-filling bound, and erased modules.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compress import Rd, compress_adapter
from compress.reports import CompressionReport

RESULTS = Path(__file__).resolve().parent / "results"
MILLION = 1_000_000
ABOUT = """# The method rd against its bounds

Made by `python -m benchmarks.rd_bounds`. ÷ Shannon: bytes of the compressed part, header, names
and config too, over the bound of its own symbols, each given what it is coded with. Over: bytes
beyond 1.01 times that bound (above a million parameters; 1.03 times below) plus 1 KiB; bold where
the aim is missed. ÷ bound: error of ΔW over the water-filling bound at the file's rate less 1 KiB.
"""


def adapters(data: Path) -> list[Path]:
    """List the folders of sample adapters."""
    return sorted(
        folder
        for kind in ("adapters", "experts")
        for folder in (data / kind).iterdir()
        if folder.is_dir()
    )


def allowed_bytes(report: CompressionReport) -> float:
    """Give what the compressed part may take."""
    share = 1.01 if report.parameters > MILLION else 1.03
    return share * report.shannon_bytes + 1024


def row(source: Path, bits: float, report: CompressionReport) -> str:
    """Write one row of the table."""
    over = report.size.lossy - allowed_bytes(report)
    error, bound = report.delta_error or 0.0, report.error_bound
    cells = [
        source.name,
        f"{report.parameters:,}",
        f"{bits:g}",
        f"{report.bits_per_param:.4f}",
        f"{report.size.lossy / report.shannon_bytes:.4f}",
        f"**{over:+.0f}**" if over > 0 else f"{over:+.0f}",
        f"{error:.4f}",
        f"{error / bound:.3f}" if bound else "",
        str(len(report.erased)),
    ]
    return "| " + " | ".join(cells) + " |"


def measured(data: Path, rates: Sequence[float]) -> Iterator[str]:
    """Measure all adapters; give the lines of the page."""
    yield from ABOUT.splitlines()
    yield f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}."
    yield ""
    yield "| adapter | parameters | asked | bits | ÷ Shannon | over | error | ÷ bound | erased |"
    yield "|---|---|---|---|---|---|---|---|---|"
    ratios: dict[float, list[float]] = {bits: [] for bits in rates}
    with tempfile.TemporaryDirectory() as work:
        for source in adapters(data):
            for bits in rates:
                path = Path(work) / "x.tern"
                report = compress_adapter(source, path, method=Rd(bits=bits))
                path.unlink()
                yield row(source, bits, report)
                if report.error_bound and report.delta_error:
                    ratios[bits].append(report.delta_error / report.error_bound)
    yield ""
    for bits, found in ratios.items():
        mean = math.exp(sum(map(math.log, found)) / len(found)) if found else math.nan
        yield f"{bits:g} bits: error ÷ bound, geometric mean {mean:.3f}, largest {max(found):.3f}"
        yield ""


def main() -> None:
    """Print the page and write it to `results/rd_bounds.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0])
    options = parser.parse_args()
    data = Path(os.environ.get("ADAPTERS_TEST_DATA", "../shared/data"))
    lines = []
    for line in measured(data, options.bits):
        print(line, flush=True)
        lines.append(line)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rd_bounds.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
