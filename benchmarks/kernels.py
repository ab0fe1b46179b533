"""Measure the kernels on a GPU, as a share of the bandwidth at which the same GPU copies memory.

    python benchmarks/kernels.py [--millions 256] [--segments 1 8 60] [--layers 1 3 60]
                                 [--encoded DIR]

Without a CUDA device nothing is measured. What the table says is explained in `NOTES`, which goes
to `results/kernels.md` with it. Encoding the layers takes most of the time; with `--encoded` files
are kept in a folder, and found there the next time: they can be made where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import ml_dtypes
import numpy as np
import torch

# A script finds only its own folder; the rooms are beside it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compress import Rd, compress_adapter, entropy
from compress.container_read import TernFile
from compress.kernels import entropy as coder
from compress.kernels import (
    factors,
    layer_masks,
    masks,
    plane_batches,
    planes,
    restore,
    sparsify,
    ternary,
)
from compress.kernels.backend import KernelBackend
from compress.kernels.segments import Batch, upload
from compress.numpy_backend import NumpyBackend
from compress.rate_distortion import decoder
from compress.rate_distortion.decoder import Coded
from compress.rate_distortion.planes import read_planes
from compress.tensor_file import TensorInfo, TensorWriter

RESULTS = Path(__file__).resolve().parent / "results"
DEVICE = "cuda"
DENSITY = 0.2
REPEATS = 15
#: Larger than any cache, written between two runs so that none finds its input there.
FLUSH_BYTES = 256 << 20
#: Bits per parameter of the layers.
RATES = (0.25, 0.5, 1.0)
#: The linear layers of a block of a 7B model: d_out, d_in.
BLOCK_SHAPES = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), (4096, 4096)),
    **dict.fromkeys(("gate_proj", "up_proj"), (11008, 4096)),
    "down_proj": (4096, 11008),
}
#: Of the 32 blocks, so many fill a segment: 16.2 M of 40 M parameters at rank 16.
BLOCKS, RANK = 13, 16
NOTES = f"""
**What is measured.** Every figure is the median of {REPEATS} timed runs after a warm-up, by the
device's own clock and from a cold cache; "upload" is one run by the host's clock. Copying is
`torch.clone`, counted as bytes read plus bytes written. Selection counts each value once, however
often it is read; ternarising counts values read and symbols written.

Decoding counts the bytes of values *written*, whatever is read for it. compeft: full segments of
2²⁴ trits at density {DENSITY:.0%}, once with words that all lanes share and once with words by
groups of 32 lanes. rd: a synthetic adapter of rank {RANK} for all linear layers of a 7B model in
BF16, 40 M parameters in three segments, whose components fall off by 0.85; one segment of {BLOCKS}
blocks is encoded at each rate and taken so many times, "3" being about one adapter. What an adapter
has no bits for is written as zeros, which is why fewer bits decode faster. "planes" is the entropy
stage, "factors" turns levels into A and B, "masks" splits levels into bit planes instead, counted
as if it wrote the values. "upload" is what the host does before: reading blocks, tables, plans and
the transfer.
"""
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


def encode_blocks(bits: float, folder: Path) -> Path:
    """Encode the blocks of a synthetic adapter at a rate, unless the file is there already."""
    path = folder / f"rd-{bits:g}-{BLOCKS}-{RANK}.tern"
    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    strengths = np.float32(0.02) * np.float32(0.85) ** np.arange(RANK, dtype=np.float32)
    tensors = {}
    for block in range(BLOCKS):
        for name, (d_out, d_in) in BLOCK_SHAPES.items():
            module = f"base_model.model.model.layers.{block}.{name}"
            a = rng.standard_normal((RANK, d_in), np.float32)
            b = rng.standard_normal((d_out, RANK), np.float32) * strengths
            tensors[f"{module}.lora_A.weight"] = a.astype(ml_dtypes.bfloat16)
            tensors[f"{module}.lora_B.weight"] = b.astype(ml_dtypes.bfloat16)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "adapter.safetensors"
        infos = [TensorInfo(name, "BF16", values.shape) for name, values in tensors.items()]
        with TensorWriter(source, infos, metadata={}) as writer:
            for name, values in tensors.items():
                writer.write(name, values.tobytes())
        compress_adapter(source, path, method=Rd(bits=bits))
    return path


def encoded_layers(folder: Path) -> Iterator[tuple[float, Coded]]:
    """Encode at every rate, side by side, and give the segments."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(RATES), get_context("spawn")) as pool:
        paths = list(pool.map(encode_blocks, RATES, [folder] * len(RATES)))
    for bits, path in zip(RATES, paths, strict=True):
        with TernFile(path) as tern:
            (coded,) = decoder.read(tern)
        yield bits, coded


def check_layers(coded: Coded) -> None:
    """Compare one segment with the reference, bit for bit."""
    gpu, cpu = KernelBackend(DEVICE), NumpyBackend()
    pairs = zip(gpu.decode_layers([coded]), cpu.decode_layers([coded]), strict=True)
    if any(gpu.on_host(found).tobytes() != right.tobytes() for found, right in pairs):
        sys.exit("decoding layers is wrong")


def layer_rows(bits: float, coded: Coded, segments: int, copy: float) -> list[str]:
    """Measure decoding of layers, the same segment so many times."""
    many = [coded] * segments
    start = time.perf_counter()
    batch = plane_batches.upload(many, DEVICE)
    targets = factors.upload(many, batch.places, DEVICE)
    torch.cuda.synchronize()
    uploading = time.perf_counter() - start
    levels = planes.decode_planes(batch)
    written = 2 * segments * sum(tensor.info.size for tensor in coded.tensors)
    most = max(coded.planes)

    def decode_all() -> None:
        factors.write_factors(planes.decode_planes(batch), targets)

    def split_all() -> None:
        for place in batch.places:
            own = levels[2 * place.first : 2 * (place.first + place.pairs)]
            layer_masks.split(own, most)

    steps: dict[str, Callable[[], object]] = {
        f"decode rd, {bits:g} bits": decode_all,
        f"· planes, {bits:g} bits": partial(planes.decode_planes, batch),
        f"· factors, {bits:g} bits": partial(factors.write_factors, levels, targets),
        f"· masks, {bits:g} bits": split_all,
    }
    times = {name: timed(work) for name, work in steps.items()}
    times[f"upload, {bits:g} bits"] = uploading
    size = f"{segments} × 16 M BF16"
    return [row(name, size, t, size_bytes=written, copy=copy) for name, t in times.items()]


def lanes_told(coded: Sequence[tuple[float, Coded]]) -> str:
    """Say how many lanes decode each plane: with few, one adapter alone leaves a GPU idle."""
    told = []
    for bits, one in coded:
        lanes = [
            f"{len(plane.stream.states)} "
            + ("shared" if plane.stream.group_words is None else "grouped")
            for plane in read_planes(one.blocks, one.layout, one.planes)
        ]
        values = one.layout.size / sum(tensor.info.size for tensor in one.tensors)
        told.append(f"{bits:g} bits: {values:.0%} of the values, {', '.join(lanes)}")
    return "Coded values and lanes by plane, coarsest first: " + "; ".join(told) + "."


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
    parser.add_argument("--segments", type=int, nargs="+", default=[1, 8, 60], help="of trits")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 3, 60], help="segments of rd")
    parser.add_argument("--encoded", type=Path, help="a folder that keeps what was encoded")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        made = list(encoded_layers(options.encoded)) if options.encoded else []
        print(f"no device: torch sees no CUDA device; {len(made)} files encoded, nothing measured")
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
    with tempfile.TemporaryDirectory() as work:
        layers = list(encoded_layers(options.encoded or Path(work)))
    for bits, coded in layers:
        check_layers(coded)
        for segments in options.layers:
            lines += layer_rows(bits, coded, segments, copy)
    lines += ["", lanes_told(layers), NOTES.rstrip()]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kernels.md").write_text(text)


if __name__ == "__main__":
    main()
