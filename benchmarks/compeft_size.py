"""Compare the size of `.tern` files with the Shannon bound of their trits, on real adapters.

    python benchmarks/compeft_size.py [--data ../shared/data] [--scope global]

Every adapter is compressed at five densities. The whole file less what is kept exactly (header,
index, names, scales, config and trits) is set against the bound of all its trits in one
distribution. Parts whose densities differ are modelled apart, so a file can be smaller than that
bound.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from compress import Compeft, CompressError, CompressionReport, Scope, compress_adapter

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
RESULTS = Path(__file__).resolve().parent / "results"
HEAD = (
    "| adapter | parameters | density | bytes | bound | bytes / bound | bytes left to the aim | "
    "ΔW error | meets the aim |"
)


def allowance(report: CompressionReport) -> float:
    """Give the bytes that the aim allows: bound × 1.02 + 1 KiB."""
    return 1.02 * report.shannon_bytes + 1024


def row(name: str, report: CompressionReport) -> str:
    """Write one row of the table."""
    left = allowance(report) - report.size.lossy
    strict = report.size.lossy <= 1.01 * report.shannon_bytes + 1024
    verdict = "no" if left < 0 else "yes, × 1.01 too" if strict else "yes"
    error = "–" if report.delta_error is None else f"{report.delta_error:.4f}"
    density = float(report.settings["density"])
    return (
        f"| {name} | {report.parameters:,} | {density:.0%} | {report.size.lossy:,} | "
        f"{report.shannon_bytes:,.0f} | {report.size.lossy / report.shannon_bytes:.4f} | "
        f"{left:,.0f} | {error} | {verdict} |"
    )


def rows(data: Path, scope: Scope, work: Path) -> Iterator[tuple[str, bool]]:
    """Compress everything; give rows and whether each meets the aim."""
    folders = sorted([*data.glob("adapters/*"), *data.glob("experts/*")])
    for folder in folders:
        for density in DENSITIES:
            method = Compeft(density=density, scope=scope)
            try:
                report = compress_adapter(folder, work / "x.tern", method=method)
            except CompressError as error:
                yield f"| {folder.name} | | | refused: {error} | | | | | |", True
                break
            yield row(folder.name, report), report.size.lossy <= allowance(report)


def machine() -> str:
    """Name the machine and the versions that the numbers come from."""
    names = ("numpy", "ml_dtypes", "safetensors")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {python}, {versions}"


def main() -> None:
    """Print the table and write it to `results/compeft_size.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--scope", type=Scope, default=Scope.GLOBAL, choices=list(Scope))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        table = list(rows(options.data, options.scope, Path(work)))
    met = sum(good for _, good in table)
    lines = [
        "# Size of `.tern` files against the Shannon bound",
        "",
        "Bytes: the whole file less the exact part; header, names, scales and config are counted.",
        "Bound: entropy of all trits in one distribution. Aim: bytes ≤ bound × 1.02 + 1 KiB.",
        f"Scope {options.scope.value}, alpha 1, published count. {machine()}.",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|---|",
        *(line for line, _ in table),
        "",
        f"{met} of {len(table)} meet the aim.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "compeft_size.md").write_text(text)


if __name__ == "__main__":
    main()
