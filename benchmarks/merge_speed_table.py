"""Run the cases of `merge_speed` and lay their figures side by side."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.merge_speed import (
    MERGEKIT,
    OURS,
    PEFT,
    RANK,
    Case,
    measure,
    write_adapter,
)

_SIDE = 1024


class Bench:
    """Measure cases, each for all layers, and remember ours for ratios."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.cpu_s: dict[str, float] = {}

    def rows(self) -> list[str]:
        """Measure all of ours, then PEFT's and mergekit's beside those that do the same."""
        lines = []
        for what in OURS:
            layers = min(self._case.layers, OURS[what].layers)
            found = measure(replace(self._case, what=what, layers=layers))
            cpu_s = self.cpu_s[what] = found.cpu_s * self._case.layers / layers
            told = f"{layers} layer{'s' * (layers > 1)}"
            lines.append(_row("ternery", what, told, (cpu_s, found.peak_mb)))
        for what, (same, sampled) in PEFT.items():
            lines.append(self._other("peft", what, same, sampled=sampled))
        lines += [
            self._other("mergekit", what, same, sampled=True) for what, same in MERGEKIT.items()
        ]
        return lines

    def _other(self, who: str, what: str, same: str, *, sampled: bool) -> str:
        block = self._case.block
        if sampled:
            case = replace(self._case, who=who, what=what, layers=1, modules=("q_proj",))
            side = block["q_proj"][0]
            cube = who == "peft"
            parts = sum(
                rows * columns * (min(rows, columns) if cube else side) / side**3
                for rows, columns in block.values()
            )
            found = measure(case)
            seconds = (found.cpu_s + found.prepare_s * (who == "peft")) * parts * self._case.layers
            told = "1 matrix"
        else:
            layers = min(self._case.layers, 4)
            found = measure(replace(self._case, who=who, what=what, layers=layers))
            seconds = (found.cpu_s + found.prepare_s) * self._case.layers / layers
            told = f"{layers} layers"
        ratio = f"{seconds / self.cpu_s[same]:,.1f} × {same}"
        return _row(who, what, told, (seconds, found.peak_mb), ratio)


def _row(who: str, what: str, told: str, took: tuple[float, float], ratio: str = "") -> str:
    cpu_s, peak_mb = took
    return f"| {who} | {what} | {told} | {cpu_s:,.1f} | {peak_mb:,.0f} | {ratio} |"


def _best(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def _limits(case: Case) -> list[str]:
    """Say what copying and multiplying alone would take."""
    square = np.random.default_rng(0).standard_normal((_SIDE, _SIDE))
    single = square.astype(np.float32)
    rate64 = 2 * _SIDE**3 / _best(lambda: square @ square)
    rate32 = 2 * _SIDE**3 / _best(lambda: single @ single)
    if not (case.inputs / "0").exists():
        write_adapter(case.inputs / "0", 0, case)
    path = case.inputs / "0" / "adapter_model.safetensors"
    copy = path.with_suffix(".copy")
    rate = path.stat().st_size / _best(lambda: copy.write_bytes(path.read_bytes()))
    copy.unlink()
    size, total = path.stat().st_size, RANK * case.adapters
    sides = case.layers * sum(rows + columns for rows, columns in case.block.values())
    entries = case.layers * sum(rows * columns for rows, columns in case.block.values())
    qr = 4 * sides * total**2
    products = 2 * 2 * entries * total
    inward, outward = size * case.adapters, size
    copying = (
        f"- copying files at {rate / 1e9:.1f} GB/s: {inward / 1e9:.2f} GB in and as much (all of "
        f"ΔW) or {outward / 1e9:.2f} GB (rank 16) out, {2 * inward / rate:.1f} s or "
        f"{(inward + outward) / rate:.1f} s;"
    )
    reducing = (
        f"- to rank 16: QR of both stacks, {qr / 1e12:.2f} · 10¹² operations in float64 at "
        f"{rate64 / 1e9:.0f} · 10⁹/s: {qr / rate64:.1f} s;"
    )
    multiplying = (
        f"- entries of ΔW, made twice (once for thresholds, once to merge): {products / 1e12:.1f} "
        f"· 10¹² operations in float32 at {rate32 / 1e9:.0f} · 10⁹/s: {products / rate32:.0f} s."
    )
    return [copying, reducing, multiplying]


def _growth(case: Case) -> list[str]:
    counts = [n for n in (2, 4, 8, 16) if n <= case.adapters]
    lines = []
    for what in ("linear --rank 16", "core --rank 16", "ties --rank 16"):
        cases = [replace(case, what=what, adapters=count, layers=1) for count in counts]
        peaks = [measure(one).peak_mb for one in cases]
        lines.append(f"| {what} | " + " | ".join(f"{peak:,.0f}" for peak in peaks) + " |")
    return [
        "| peak MB with so many adapters, one block | " + " | ".join(map(str, counts)) + " |",
        "|---" * (len(counts) + 1) + "|",
        *lines,
    ]


def tables(case: Case) -> str:
    """Measure everything and say it."""
    bench = Bench(case)
    size = "small matrices" if case.quick else "matrices of 4096 and 11008"
    made = (
        f"{case.adapters} LoRA adapters of rank {RANK} on 7 linear layers × {case.layers} blocks, "
        f"{size}, float16, from files to a folder."
    )
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, numpy {version('numpy')}, torch {version('torch')}, "
        f"peft {version('peft')}, mergekit {version('mergekit')}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}."
    )
    lines = [
        "# Merging beside PEFT and mergekit",
        "",
        made,
        machine,
        "",
        "Seconds are those of the processor, on all cores together, for all blocks: measured on",
        "what the third column says, and multiplied. Where it is one matrix, of 4096 × 4096, the",
        "others count by their entries, for PEFT's SVD by entries × shorter side. PEFT's seconds",
        "include loading the adapters into a model without weights of its own. mergekit's begin at",
        "dense tensors in memory, since the base and every fine-tuned model would have to be there",
        "first; its result is a full model, while ours goes on to an adapter. Peak memory is that",
        "of what was measured: PEFT holds all layers of all adapters, and grows with them.",
        "",
        "| who | method | measured | processor s, all blocks | peak MB | seconds ÷ ours |",
        "|---|---|---|---|---|---|",
        *bench.rows(),
        "",
        "What copying and multiplying alone would take, one core:",
        "",
        *_limits(case),
        "",
        *_growth(case),
    ]
    return "\n".join(lines) + "\n"
