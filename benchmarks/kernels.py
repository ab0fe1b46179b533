"""Measure the kernels on a GPU, as a share of the bandwidth at which the same GPU copies memory.

    python benchmarks/kernels.py [--millions 256] [--segments 1 8 60]

Copying is `torch.clone`, counted as bytes read plus bytes written. Selection counts each value
once, however often it is read; ternarising counts values read and symbols written; decoding counts
the bytes of values written, for full segments of 2²⁴ trits at density 20 %, once with
words that all lanes share and once with words by groups of lanes, from segments that are on the
device already. `upload` is what the host does before: checksums, tables and the transfer.

Every figure is the median of timed runs after a warm-up, by the device's own clock. Without a
CUDA device nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from compress import entropy
from compress.kernels import entropy as coder
from compress.kernels import masks, restore, sparsify, ternary
from compress.kernels.segments import Batch, upload

RESULTS = Path(__file__).resolve().parent / "results"
DEVICE = "cuda"
DENSITY = 0.2
REPEATS = 15
#: Larger than any cache, written between two runs so that none finds its input there.
FLUSH_BYTES = 256 << 20
LAYOUTS = {
    "shared words": partial(entropy.encode_segment, grouped=False),
    "grouped words": partial(entropy.encode_segment, grouped=True),
}


def timed(work: Callable[[], object]) -> float:
    """Give the median time of some work on the device, in seconds, from a cold cache."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=DEVICE)
    times = []
    for turn in range(REPEATS + 3):
        flush.zero_()
        begin = torch.Event(DEVICE, enable_timing=True)
        end = torch.Event(DEVICE, enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if turn >= 3:
            times.append(float(begin.elapsed_time(end)) / 1e3)
    return statistics.median(times)


def row(name: str, size: str, seconds: float, *, size_bytes: int, copy: float) -> str:
    """Write one line: time, rate and share of the copy bandwidth."""
    rate = size_bytes / seconds
    return f"| {name} | {size} | {seconds * 1e3:.3f} | {rate / 1e9:,.0f} | {rate / copy:.0%} |"


def copy_bandwidth(size_bytes: int) -> float:
    """Measure how many bytes a second a copy reads and writes."""
    source = torch.randint(0, 255, (size_bytes,), dtype=torch.uint8, device=DEVICE)
    return 2 * size_bytes / timed(source.clone)


def vector_rows(count: int, dtype: torch.dtype, copy: float) -> list[str]:
    """Measure what works on vectors: selection, survey, ternarising."""
    values = torch.randn(count, device=DEVICE).to(dtype)
    size, read = f"{count / 1e6:.0f} M {str(dtype)[6:]}", values.element_size() * count
    rank = int(count * (1 - DENSITY))
    found = sparsify.radix_select(values, rank)
    magnitudes = values.abs().view(torch.int16 if values.element_size() == 2 else torch.int32)
    below = int((magnitudes < found.threshold_bits).sum())
    if not below < rank <= below + int((magnitudes == found.threshold_bits).sum()):
        sys.exit("the selection is wrong")
    del magnitudes
    steps: dict[str, Callable[[], object]] = {
        "radix_select": partial(sparsify.radix_select, values, rank),
        "survey": partial(sparsify.survey, values, rank),
        "ternarise_pack": partial(ternary.ternarise_pack, values, found.threshold_bits),
    }
    extra = {"ternarise_pack": count // 5}
    return [
        row(name, size, timed(work), size_bytes=read + extra.get(name, 0), copy=copy)
        for name, work in steps.items()
    ]


def decode_rows(segments: int, dtype: str, copy: float) -> list[str]:
    """Measure decoding of full segments in both layouts."""
    draw = np.random.default_rng(0).random(entropy.MAX_SEGMENT_TRITS, np.float32)
    trits = (draw < DENSITY).astype(np.int8) - 2 * (draw < DENSITY / 2).astype(np.int8)
    size = f"{segments} × 2²⁴ {dtype}"
    rows = []
    for layout, encode in LAYOUTS.items():
        encoded = [encode(trits)] * segments
        start = time.perf_counter()
        batch = upload(encoded, DEVICE)
        uploading = time.perf_counter() - start
        first, *_ = decode(batch, dtype)
        if not np.array_equal(first.float().cpu().numpy(), trits * np.float32(0.5)):
            sys.exit(f"decoding {layout} is wrong")
        written = first.element_size() * len(trits) * segments
        steps: dict[str, Callable[[], object]] = {
            f"decode, {layout}": partial(decode, batch, dtype),
            f"· entropy stage, {layout}": partial(coder.decode_symbols, batch),
            "· values from symbols": partial(
                restore.restore,
                coder.decode_symbols(batch),
                batch.spans,
                scales=[0.5] * segments,
                dtype=dtype,
            ),
            "· masks from symbols": partial(
                masks.pack_masks, coder.decode_symbols(batch), batch.spans
            ),
        }
        times = {name: timed(work) for name, work in steps.items()}
        times[f"upload, {layout}"] = uploading
        rows += [row(name, size, t, size_bytes=written, copy=copy) for name, t in times.items()]
    return rows


def decode(batch: Batch, dtype: str) -> list[torch.Tensor]:
    """Decode what is on the device into values."""
    scales = [0.5] * len(batch.spans.places)
    return restore.restore(coder.decode_symbols(batch), batch.spans, scales=scales, dtype=dtype)


def machine() -> str:
    """Name the machine and the versions that the numbers come from."""
    return (
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, triton {version('triton')}, "
        f"numpy {version('numpy')}"
    )


def main() -> None:
    """Print the table and write it to `results/kernels.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, default=256, help="values of the vectors")
    parser.add_argument("--segments", type=int, nargs="+", default=[1, 8, 60])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no device: torch sees no CUDA device; nothing was measured")
        return
    count = options.millions << 20
    copy = copy_bandwidth(4 * count)
    lines = [
        "# Speed of the kernels",
        "",
        f"{machine()}. A copy reads and writes {copy / 1e9:,.0f} GB/s together.",
        "",
        "| kernel | size | ms | GB/s | share of the copy bandwidth |",
        "|---|---|---|---|---|",
        *vector_rows(count, torch.float32, copy),
        *vector_rows(count, torch.bfloat16, copy),
    ]
    for segments in options.segments:
        for dtype in ("BF16", "F32"):
            lines += decode_rows(segments, dtype, copy)
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kernels.md").write_text(text)


if __name__ == "__main__":
    main()
