"""Measure how fast a library of compressed experts is compared and summed, beside the usual ways.

    python benchmarks/expert_similarity.py [--experts 1000] [--few 32] [--large 10] [--only rd]

Experts of the shape of MiniLM (18 modules [384 × 384], rank 8, 0.11 M parameters): trits at two
densities, and what `rd` keeps at half a bit a parameter, in memory; then the same from files. All
ways give the cosine of ΔW of every pair: matrix products of decoded factors in float32, in torch
and in NumPy, which take every pair twice; torch on dense ΔW; and the road not taken, counting bits
in NumPy, or of the planes of `rd`. What takes too long is measured on fewer experts and scaled by
pairs, which is said. Then rank 16 at the size of 7 billion parameters, and sums and TIES of eight
experts. The best of some runs, in seconds of the wall clock; on a busy machine CPU seconds tell
more.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge
from safetensors.numpy import save_file

from compress import Compeft, Rd, Scope, compress_adapter, loops
from compress.mask_products import row_products
from compress.trit_rows import TritRows, pack_rows, stack, unpack_rows
from merge.compressed import (
    CompressedExpert,
    CompressedModule,
    TernaryTensor,
    all_cosines,
    cosines_to,
    find_clusters,
    find_pairs,
    linear_sum,
    read_expert,
    ties,
)
from merge.compressed.experts import as_floats

RESULTS = Path(__file__).resolve().parent / "results"
Array = NDArray[Any]
#: Modules, rank, d_out and d_in of MiniLM's query, value and key as the sample experts adapt them.
SMALL = [(f"layer.{n}", 8, 384, 384) for n in range(18)]
#: Of a Llama of 7 billion parameters: d_out and d_in of the seven linear layers of 32 blocks.
LARGE = [
    (f"{n}.{name}", 16, d_out, d_in)
    for n in range(32)
    for name, d_out, d_in in (
        *((name, 4096, 4096) for name in "qkvo"),
        ("gate", 11008, 4096),
        ("up", 11008, 4096),
        ("down", 4096, 11008),
    )
]
RD_BITS, KEPT_COMPONENTS = 0.5, (1, 2)
Shapes = Sequence[tuple[str, int, int, int]]


def best_of(repeats: int, work: Callable[[], object]) -> tuple[float, float]:
    """Give the shortest time in seconds of the wall clock, and the least CPU seconds."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


def random_trits(rng: np.random.Generator, rows: int, columns: int, density: float) -> Array:
    """Draw int8 [rows, columns]."""
    draws = rng.random((rows, columns), np.float32)
    trits: Array = (draws < density).astype(np.int8) - 2 * (draws < density / 2).astype(np.int8)
    return trits


def ternary_library(count: int, shapes: Shapes, density: float) -> list[CompressedExpert]:
    """Draw experts of trits."""
    rng = np.random.default_rng(0)
    return [
        CompressedExpert(
            f"expert {number}",
            "compeft",
            "base",
            "",
            {
                name: CompressedModule(
                    pack_rows(random_trits(rng, rank, d_in, density)),
                    pack_rows(random_trits(rng, rank, d_out, density)),
                    np.full(rank, float(rng.uniform(0.5, 2))),
                    (1.0, 1.0),
                )
                for name, rank, d_out, d_in in shapes
            },
        )
        for number in range(count)
    ]


def layered_library(count: int, shapes: Shapes) -> list[CompressedExpert]:
    """Draw experts of small integers, as many components and as large as `rd` has at half a bit."""
    rng = np.random.default_rng(0)

    def vectors(rank: int, columns: int) -> Array:
        spread = rng.choice([1.5, 3.0, 6.0], (rank, 1))
        drawn: Array = np.rint(rng.normal(size=(rank, columns)) * spread).astype(np.int8)
        return drawn

    return [
        CompressedExpert(
            f"expert {number}",
            "rd",
            "base",
            "",
            {
                name: CompressedModule(
                    vectors(rank, d_in), vectors(rank, d_out), rng.uniform(0.1, 1, rank)
                )
                for name, _, d_out, d_in in shapes
                for rank in [int(rng.integers(KEPT_COMPONENTS[0], KEPT_COMPONENTS[1] + 1))]
            },
        )
        for number in range(count)
    ]


def decoded_factors(experts: Sequence[CompressedExpert], name: str) -> tuple[Array, Array, Array]:
    """Decode one module of all experts: a, b with its weights (float32), and whose each row is."""
    modules = [expert.modules[name] for expert in experts]
    a = np.concatenate([as_floats(module.a) for module in modules])
    b = np.concatenate([as_floats(m.b) * m.weights[:, None].astype(np.float32) for m in modules])
    owner = np.repeat(np.arange(len(modules)), [module.rank for module in modules])
    return a, b, owner


def torch_factors(experts: Sequence[CompressedExpert], *, ready: list[Any] | None = None) -> Array:
    """Compute all cosines by float32 products of decoded factors in torch."""
    count = len(experts)
    total = torch.zeros(count, count)
    decoded = ready or [decoded_factors(experts, name) for name in experts[0].modules]
    for a, b, owner in decoded:
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        owners = torch.from_numpy(owner)
        for start in range(0, len(owner), 2000):
            rows = slice(start, start + 2000)
            products = (left[rows] @ left.T) * (right[rows] @ right.T)
            by_column = torch.zeros(len(products), count).index_add_(1, owners, products)
            total.index_add_(0, owners[rows], by_column)
    norms = total.diagonal().sqrt()
    cosines: Array = (total / (norms[:, None] * norms)).numpy()
    return cosines


def numpy_factors(experts: Sequence[CompressedExpert], ready: list[Any]) -> Array:
    """Compute all inner products by float32 products of decoded factors in NumPy."""
    count = len(experts)
    total = np.zeros((count, count), np.float32)
    for a, b, owner in ready:
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        for start in range(0, count, 250):
            first = starts[start]
            last = starts[start + 250] if start + 250 < count else len(owner)
            products = (a[first:last] @ a.T) * (b[first:last] @ b.T)
            sums = np.add.reduceat(products, starts, axis=1)
            own = starts[start : start + 250] - first
            total[start : start + 250] += np.add.reduceat(sums, own, axis=0)
    return total


def dense_deltas(experts: Sequence[CompressedExpert]) -> torch.Tensor:
    """Form every ΔW: float32 [experts, parameters of the base]."""
    rows = []
    for expert in experts:
        parts = [
            (as_floats(m.b).T * m.weights.astype(np.float32)) @ as_floats(m.a)
            for m in expert.modules.values()
        ]
        rows.append(torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts])))
    return torch.stack(rows)


def dense_cosines(deltas: torch.Tensor) -> torch.Tensor:
    """Compute all cosines of dense ΔW in torch."""
    norms = deltas.norm(dim=1)
    cosines: torch.Tensor = (deltas @ deltas.T) / (norms[:, None] * norms)
    return cosines


def dense_seconds(experts: Sequence[CompressedExpert], whole: int) -> tuple[float, float]:
    """Measure cosines of dense ΔW: forming scaled by experts, products by pairs."""
    deltas = dense_deltas(experts)
    forming = scaled(best_of(2, lambda: dense_deltas(experts)), whole / len(experts))
    products = scaled(best_of(3, lambda: dense_cosines(deltas)), (whole / len(experts)) ** 2)
    return forming[0] + products[0], forming[1] + products[1]


def scaled(seconds: tuple[float, float], factor: float) -> tuple[float, float]:
    """Scale what was measured on a part."""
    return seconds[0] * factor, seconds[1] * factor


def row_of(title: str, seconds: tuple[float, float], ours: float, note: str = "") -> str:
    """Write one line of a table."""
    wall, processor = seconds
    return f"| {title} | {wall:,.2f} | {processor:,.2f} | {wall / ours:,.1f} | {note} |"


HEAD = ["| way | seconds | CPU seconds | ÷ ours | |", "|---|---|---|---|---|"]


def exactness(experts: Sequence[CompressedExpert]) -> float:
    """Give the largest difference from cosines of dense ΔW in float64."""
    deltas = dense_deltas(experts).double()
    products = (deltas @ deltas.T).numpy()
    norms = np.sqrt(np.diagonal(products))
    scale = norms[:, None] * norms
    expected = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return float(np.abs(all_cosines(experts) - expected).max())


def compare(
    title: str, experts: list[CompressedExpert], few: int, *, others: bool = True
) -> list[str]:
    """Measure all ways on one library, or ours alone where the others do not depend on density."""
    count = len(experts)
    ours = best_of(3, lambda: all_cosines(experts))
    one = best_of(3, lambda: cosines_to(experts[0], experts))
    cosines = all_cosines(experts)
    memory = sum(expert.size_bytes for expert in experts) / 1e6
    told = (
        f"{count:,} experts, {count * (count - 1) // 2:,} pairs, {memory:,.0f} MB in memory. "
        f"Largest difference from cosines of dense ΔW in float64, on {few} of them: "
        f"{exactness(experts[:few]):.1e}."
    )
    a_pair = f"{ours[0] / count**2 * 2e6:.2f} µs a pair"
    return [
        f"## {title}",
        "",
        told,
        "",
        *HEAD,
        row_of("**compressed, all pairs**", ours, ours[0], a_pair),
        row_of("compressed, one with all", one, ours[0]),
        *(peers(experts, few, ours[0]) if others else []),
        *(road_not_taken(experts, ours[0]) if others else []),
        row_of("pairs of at least 0.95", best_of(2, lambda: find_pairs(experts, cosines)), ours[0]),
        row_of("clusters", best_of(2, lambda: find_clusters(cosines)), ours[0]),
        "",
    ]


def peers(experts: Sequence[CompressedExpert], few: int, ours: float) -> list[str]:
    """Measure what others do with decoded experts."""
    ready = [decoded_factors(experts, name) for name in experts[0].modules]
    floats = sum(a.nbytes + b.nbytes for a, b, _ in ready) / 1e6
    prepared = best_of(2, lambda: torch_factors(experts, ready=ready))
    decoding = best_of(1, lambda: torch_factors(experts))
    in_numpy = best_of(1, lambda: numpy_factors(experts, ready))
    densely = dense_seconds(experts[:few], len(experts))
    scaled_note = f"measured on {few}: forming scaled by experts, products by pairs"
    return [
        row_of("torch, factors decoded before", prepared, ours, f"{floats:,.0f} MB of float32"),
        row_of("torch, decoding included", decoding, ours, "once"),
        row_of("NumPy, factors decoded before", in_numpy, ours, "once"),
        row_of("torch, dense ΔW", densely, ours, scaled_note),
    ]


def road_not_taken(experts: Sequence[CompressedExpert], ours: float) -> list[str]:
    """Measure the other kernel on the same vectors: the products of rows alone."""
    if experts[0].method == "rd":
        planes = [ternary_planes(experts, name) for name in experts[0].modules]
        found = best_of(2, lambda: [row_products(rows, rows) for sides in planes for rows in sides])
        return [row_of("counted bits of all planes", found, ours, "products of planes alone")]
    with loops.only_numpy():
        few = experts[:40]
        found = scaled(best_of(2, lambda: all_cosines(few)), (len(experts) / len(few)) ** 2)
    return [row_of("counted bits in NumPy", found, ours, "measured on 40, scaled by pairs")]


def ternary_planes(experts: Sequence[CompressedExpert], name: str) -> tuple[TritRows, TritRows]:
    """Write integers in balanced ternary: planes of all vectors below one another, of a and b."""
    found = []
    for side in ("a", "b"):
        values = np.concatenate([getattr(e.modules[name], side) for e in experts]).astype(np.int16)
        planes = []
        while values.any():
            trits = (values + 1) % 3 - 1
            planes.append(pack_rows(trits.astype(np.int8)))
            values = (values - trits) // 3
        found.append(planes)
    return stack(found[0]), stack(found[1])


def file_rows(count: int, work: Path) -> list[str]:
    """Measure reading files, and the whole job from files."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        tensors = {}
        for name, rank, d_out, d_in in SMALL:
            falling = 0.02 * np.exp(-np.arange(rank) / 2)
            tensors[f"base_model.model.{name}.lora_A.weight"] = rng.normal(
                size=(rank, d_in)
            ).astype(np.float32)
            tensors[f"base_model.model.{name}.lora_B.weight"] = (
                rng.normal(size=(d_out, rank)) * falling
            ).astype(np.float32)
        folder = work / str(number)
        folder.mkdir()
        config = '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "x"}'
        (folder / "adapter_config.json").write_text(config)
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        made.append(folder)
    lines = [
        "## From files",
        "",
        "| method | reading | all pairs | bytes a file | read a second |",
        "|---|---|---|---|---|",
    ]
    for title, method in (
        ("compeft, density 0.1", Compeft(0.1, scope=Scope.FACTOR)),
        (f"rd, {RD_BITS} bits", Rd(bits=RD_BITS)),
    ):
        paths = []
        for folder in made:
            path = folder.with_suffix(f".{title[:2]}.tern")
            compress_adapter(folder, path, method=method)
            paths.append(path)
        sources = [paths[number % len(paths)] for number in range(count)]
        reading, _ = best_of(2, lambda s=sources: [read_expert(path) for path in s])  # type: ignore[misc]
        experts = [read_expert(path) for path in sources]
        pairs, _ = best_of(2, lambda e=experts: all_cosines(e))  # type: ignore[misc]
        size = sum(path.stat().st_size for path in paths) / len(paths)
        lines.append(
            f"| {title} | {reading:.2f} s | {pairs:.2f} s | {size:,.0f} | {count / reading:,.0f} |"
        )
    return [*lines, "", f"{count:,} files, of which {len(made)} differ.", ""]


def large_rows(count: int, times: int = 10) -> list[str]:
    """Measure experts of rank 16 for a model of 7 billion parameters, ours with many of them."""
    experts = ternary_library(count, LARGE, 0.1)
    parameters = sum(rank * (d_out + d_in) for _, rank, d_out, d_in in LARGE)
    ours = best_of(2, lambda: all_cosines(experts * times))
    peer = best_of(1, lambda: torch_factors(experts))
    told = (
        f"{count} experts of {parameters / 1e6:.0f} M parameters, 224 modules, density 0.1, "
        f"{experts[0].size_bytes / 1e6:.0f} MB each in memory; compressed, each of them {times} "
        "times."
    )
    return [
        "## Rank 16 for a model of 7 billion parameters",
        "",
        told,
        "",
        "| way | pairs | seconds | CPU seconds | CPU ms a pair | 1,000 experts, by pairs |",
        "|---|---|---|---|---|---|",
        large_row("**compressed**", ours, count * times, scaled_up=True),
        large_row("torch, factors, decoding included", peer, count, scaled_up=False),
        "",
    ]


def large_row(name: str, seconds: tuple[float, float], count: int, *, scaled_up: bool) -> str:
    """Write one line about large experts; of few ones decoding is most, which is not by pairs."""
    pairs = count * (count + 1) // 2
    wall, processor = seconds
    many = f"{processor / pairs * 500_500 / 60:,.0f} CPU min" if scaled_up else "mostly decoding"
    return (
        f"| {name} | {pairs:,} | {wall:.2f} | {processor:.2f} | {processor / pairs * 1e3:.2f} | "
        f"{many} |"
    )


def sum_rows(count: int = 8) -> list[str]:
    """Measure sums and TIES of experts, tensor by tensor."""
    return [
        "## Sums and TIES",
        "",
        f"{count} experts, 4 modules of rank 16 and width 4096; million values a CPU second.",
        "",
        "| density | linear | ties | torch linear | PEFT ties | unpacked, then PEFT ties |",
        "|---|---|---|---|---|---|",
        *(sum_row(count, density) for density in (0.05, 0.1, 0.3)),
        "",
    ]


def sum_row(count: int, density: float) -> str:
    """Measure sums at one density."""
    shapes = [(f"m{n}", 16, 4096, 4096) for n in range(4)]
    experts = ternary_library(count, shapes, density)
    tensors = [
        [TernaryTensor(getattr(e.modules[name], side), 0.5 + n / 8) for n, e in enumerate(experts)]
        for name, *_ in shapes
        for side in ("a", "b")
    ]
    weights = [1 / count] * count
    shares = torch.tensor(weights)[:, None, None]
    ready = [unpacked(parts) for parts in tensors]
    figures = [
        best_of(9, lambda: [linear_sum(parts, weights) for parts in tensors]),
        best_of(9, lambda: [ties(parts, weights) for parts in tensors]),
        best_of(3, lambda: [(values * shares).sum(0) for values in ready]),
        best_of(3, lambda: [peft_ties(values, shares) for values in ready]),
        best_of(3, lambda: [peft_ties(unpacked(parts), shares) for parts in tensors]),
    ]
    values = count * sum(parts[0].shape[0] * parts[0].shape[1] for parts in tensors) / 1e6
    return (
        f"| {density:.0%} | "
        + " | ".join(f"{values / processor:,.0f}" for _, processor in figures)
        + " |"
    )


def unpacked(parts: Sequence[TernaryTensor]) -> torch.Tensor:
    """Decode tensors to float32 [experts, rows, columns]."""
    return torch.stack(
        [torch.from_numpy(unpack_rows(part.rows)).float() * part.scale for part in parts]
    )


def peft_ties(values: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Merge as PEFT does, nothing trimmed any more."""
    merged: torch.Tensor = disjoint_merge(values * shares, calculate_majority_sign_mask(values))
    return merged


def machine() -> str:
    """Name the machine and the versions that the numbers come from."""
    words = ("numpy", "numba", "torch", "scipy", "peft")
    versions = ", ".join(f"{name} {version(name)}" for name in words)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {versions}, {torch.get_num_threads()} threads"
    )


def sections(options: argparse.Namespace, work: Path) -> Iterator[list[str]]:
    """Measure one table after another."""
    count, few, wanted = options.experts, options.few, options.only
    measured: dict[str, Callable[[], list[str]]] = {
        "sparse": lambda: compare(
            "Trits of `compeft` at density 10%", ternary_library(count, SMALL, 0.1), few
        ),
        "dense": lambda: compare(
            "Trits of `compeft` at density 30%, which costs the others the same",
            ternary_library(count, SMALL, 0.3),
            few,
            others=False,
        ),
        "rd": lambda: compare(f"`rd` at {RD_BITS} bits", layered_library(count, SMALL), few),
        "files": lambda: file_rows(count, work),
        "large": lambda: large_rows(options.large),
        "sums": sum_rows,
    }
    for name, measure in measured.items():
        if not wanted or name in wanted:
            yield measure()


def main() -> None:
    """Print all tables and write them to `results/expert_similarity.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=1000)
    parser.add_argument("--few", type=int, default=32)
    parser.add_argument("--large", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="sparse, dense, rd, files, large, sums")
    options = parser.parse_args()
    loops.compile_all()
    text = f"# Comparing and adding compressed experts\n\n{machine()}. Best of two or three.\n\n"
    with tempfile.TemporaryDirectory() as work:
        for part in sections(options, Path(work)):
            print("\n".join(part), flush=True)
            text += "\n".join([*part, ""])
    text += f"Load at the end: {os.getloadavg()[0]:.1f}.\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "expert_similarity.md").write_text(text)


if __name__ == "__main__":
    main()
