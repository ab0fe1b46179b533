"""Measure how fast trits are coded on one core, beside copying and deflating the same trits.

    OMP_NUM_THREADS=1 python benchmarks/codec_speed.py [--millions 1 16 100]

Synthetic trits at density 5, 20 and 50 %. Each figure is the best of three in one process, in
millions of parameters per CPU second: `encode` and `decode` are the entropy coder alone (trits ↔
segment); `deflate` is zlib, level 6, over two packed bit masks, the simple way to store the same;
`copy` is a memory copy of the trits. Then whole files: an adapter of LoRA factors compressed and
decompressed on disk, by `compeft` (float32) and by `rd` (float16, spectra that fall by a fifth).
Last, the sample adapters, most of them small: there opening files and adapters counts most.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress import Compeft, Rd, compress_adapter, decompress, entropy, loops, rate_distortion
from compress.backend import choose
from compress.container_read import TernFile
from compress.decode import decoded
from compress.reports import CompressionReport
from compress.tensor_file import TensorInfo, TensorWriter

RESULTS = Path(__file__).resolve().parent / "results"
DENSITIES = (0.05, 0.2, 0.5)
RATES = (0.25, 0.5, 1.0)
Array = NDArray[Any]
CODER_HEAD = (
    "| million | density | encode | decode | bytes / bound | deflate masks | inflate masks | "
    "bytes / bound | copy int8 | decode ÷ copy |"
)
SAMPLE_HEAD = (
    "| adapter | parameters | rd compress | rd decode | compeft compress | compeft decode |"
)
RD_HEAD = (
    "| million | bits | compress | decompress | decode | error of ΔW | ÷ bound | bytes / Shannon |"
)


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Give the shortest time in seconds of the processor, which a busy machine hardly changes."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def random_trits(size: int, density: float) -> Array:
    """Make independent trits."""
    values = np.random.default_rng(0).random(size, np.float32)
    return (values < density).astype(np.int8) - 2 * (values < density / 2).astype(np.int8)


def encode(trits: Array) -> list[bytes]:
    """Encode trits as segments."""
    step = entropy.MAX_SEGMENT_TRITS
    return [entropy.encode_segment(trits[at : at + step]) for at in range(0, len(trits), step)]


def masks(trits: Array) -> bytes:
    """Pack trits into two bit masks."""
    return np.packbits(trits > 0).tobytes() + np.packbits(trits < 0).tobytes()


def coder_row(millions: int, density: float) -> str:
    """Measure the entropy coder at one size and density."""
    trits = random_trits(millions * 1_000_000, density)
    size = len(trits) / 1e6
    segments = encode(trits)
    shares = np.bincount(trits + 1, minlength=3) / len(trits)
    bound = -(shares * np.log2(shares)).sum() * len(trits) / 8
    repeats = 3 if millions <= 16 else 1
    encoding = best_of(repeats, lambda: encode(trits))
    decoding = best_of(repeats, lambda: [entropy.decode_segment(segment) for segment in segments])
    packed = zlib.compress(masks(trits), 6)
    deflating = best_of(1, lambda: zlib.compress(masks(trits), 6))
    inflating = best_of(repeats, lambda: zlib.decompress(packed))
    copying = best_of(repeats, trits.copy)
    rate = sum(map(len, segments)) / bound
    return (
        f"| {millions} | {density:.0%} | {size / encoding:,.0f} | {size / decoding:,.0f} | "
        f"{rate:.4f} | "
        f"{size / deflating:,.0f} | {size / inflating:,.0f} | {len(packed) / bound:.3f} | "
        f"{size / copying:,.0f} | {copying / decoding:.3f} |"
    )


def write_adapter(path: Path, parameters: int) -> None:
    """Write a file of float32 LoRA modules of rank 16 and width 4096."""
    rng = np.random.default_rng(0)
    shapes = {"A": (16, 4096), "B": (4096, 16)}
    infos = [
        TensorInfo(f"layers.{layer}.q.lora_{factor}.weight", "F32", shape)
        for layer in range(max(1, parameters // (2 * 16 * 4096)))
        for factor, shape in shapes.items()
    ]
    with TensorWriter(path, infos, metadata={"format": "pt"}) as writer:
        for info in infos:
            writer.write(info.name, rng.standard_normal(info.size, np.float32).tobytes())


def file_row(millions: int, density: float, work: Path) -> str:
    """Measure whole files."""
    source, small, back = work / "a.safetensors", work / "x.tern", work / "b.safetensors"
    write_adapter(source, millions * 1_000_000)
    method = Compeft(density)
    pair = 2 * 16 * 4096
    size = max(1, millions * 1_000_000 // pair) * pair / 1e6
    repeats = 3 if millions <= 16 else 1
    compressing = best_of(repeats, lambda: compress_adapter(source, small, method=method))
    restoring = best_of(repeats, lambda: decompress(small, back))
    copying = best_of(repeats, lambda: back.write_bytes(source.read_bytes()))
    return (
        f"| {millions} | {density:.0%} | {size / compressing:,.0f} | {size / restoring:,.0f} | "
        f"{size / copying:,.0f} | {source.stat().st_size / small.stat().st_size:.1f} |"
    )


def write_trained(path: Path, parameters: int) -> int:
    """Write float16 LoRA modules of rank 16 and width 4096 with falling spectra; count elements."""
    rng = np.random.default_rng(0)
    falling = np.exp(-np.arange(16) / 5).astype(np.float32)
    layers = max(1, parameters // (2 * 16 * 4096))
    infos = [
        TensorInfo(f"layers.{layer}.q.lora_{factor}.weight", "F16", shape)
        for layer in range(layers)
        for factor, shape in {"A": (16, 4096), "B": (4096, 16)}.items()
    ]
    with TensorWriter(path, infos, metadata={"format": "pt"}) as writer:
        for info in infos:
            values = rng.standard_normal(info.shape, np.float32) * np.float32(0.02)
            if info.shape[0] == 16:
                values *= falling[:, None]
            writer.write(info.name, values.astype(np.float16).tobytes())
    return layers * 2 * 16 * 4096


def rd_row(millions: int, bits: float, work: Path) -> str:
    """Measure whole files by `rd`, and its decoding without reading and writing files."""
    source, small, back = work / "a.safetensors", work / "x.tern", work / "b.safetensors"
    size = write_trained(source, millions * 1_000_000) / 1e6
    reports = []
    compressing = best_of(
        1, lambda: reports.append(compress_adapter(source, small, method=Rd(bits=bits)))
    )
    restoring = best_of(3, lambda: decompress(small, back))
    with TernFile(small) as tern:
        decoding = best_of(3, lambda: [len(values) for _, values in rate_distortion.decode(tern)])
    report = reports[0]
    ratio = (report.delta_error or 0) / (report.error_bound or 1)
    return (
        f"| {millions} | {bits:g} | {size / compressing:,.1f} | {size / restoring:,.0f} | "
        f"{size / decoding:,.0f} | {report.delta_error:.4f} | {ratio:.3f} | "
        f"{report.size.lossy / report.shannon_bytes:.4f} |"
    )


def sample_row(source: Path, work: Path) -> str:
    """Measure `rd` at half a bit and `compeft` on one sample adapter."""
    small = work / "x.tern"
    reports = list[CompressionReport]()
    cells = [source.name]
    for method in (Rd(bits=0.5), Compeft(0.2)):
        compressing = best_of(
            2,
            lambda m=method: reports.append(compress_adapter(source, small, method=m)),  # type: ignore[misc]
        )
        decoding = best_of(5, lambda: read_through(small))
        size = reports[-1].parameters / 1e6
        cells += [f"{size / compressing:.1f}", f"{size / decoding:,.0f}"]
    cells.insert(1, f"{reports[-1].parameters:,}")
    return "| " + " | ".join(cells) + " |"


def read_through(small: Path) -> int:
    """Open a file and decode all that is compressed, to the stored type, in memory."""
    with TernFile(small) as tern:
        return sum(values.size for _, _, values in decoded(tern, choose("cpu")))


def samples(data: Path) -> list[Path]:
    """List the folders of sample adapters."""
    return [folder for kind in ("adapters", "experts") for folder in sorted(data.glob(f"{kind}/*"))]


def machine() -> str:
    """Name the machine and the versions that the numbers come from."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, numpy {version('numpy')}, numba {version('numba')}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def main() -> None:
    """Print both tables and write them to `results/codec_speed.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 16, 100])
    parser.add_argument("--rd", type=int, nargs="+", default=[1, 16, 40])
    default = os.environ.get("ADAPTERS_TEST_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    options = parser.parse_args()
    loops.compile_all()
    cases = [(millions, density) for millions in options.millions for density in DENSITIES]
    with tempfile.TemporaryDirectory() as work:
        lines = [
            "# Speed of the entropy coder and of whole files",
            "",
            "Million parameters per CPU second of one core, best of three (one at 100 million).",
            f"{machine()}.",
            "",
            CODER_HEAD,
            "|---|---|---|---|---|---|---|---|---|---|",
            *(coder_row(*case) for case in cases),
            "",
            "Whole files: float32 LoRA, rank 16, width 4096, with the error of ΔW and digests:",
            "",
            "| million | density | compress | decompress | copy of the file | ratio to float32 |",
            "|---|---|---|---|---|---|",
            *(file_row(*case, Path(work)) for case in cases if case[1] < 0.5),
            "",
            "Whole files by `rd`: compressing searches the step; decode is layers to float16:",
            "",
            RD_HEAD,
            "|---|---|---|---|---|---|---|---|",
            *(rd_row(millions, b, Path(work)) for millions in options.rd for b in RATES),
            "",
            "Sample adapters, `rd` at 0.5 bits, `compeft` at density 20 %; decode opens the file:",
            "",
            SAMPLE_HEAD,
            "|---|---|---|---|---|---|",
            *(sample_row(folder, Path(work)) for folder in samples(options.data)),
        ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "codec_speed.md").write_text(text)


if __name__ == "__main__":
    main()
