"""Measure merging beside PEFT and mergekit: seconds of the processor and peak memory.

    OMP_NUM_THREADS=1 python -m benchmarks.merge_speed [--quick] [--adapters 16] [--layers 32]

Made-up LoRA adapters of a model of 7 billion parameters (rank 16 on all seven linear layers of
each block, float16, on disk) are merged into a folder on disk. Every run is a process of its own.
What takes long is measured on some layers, and PEFT's and mergekit's dense methods on one matrix:
the figures for 32 layers are then products, and the table says of how much. PEFT has to load the
adapters into a model, whose own weights take no memory here. mergekit merges full models: counted
from dense tensors in memory, without its reading and writing of whole models.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.tensor_file import TensorInfo, TensorWriter
from merge import Recipe, WeightedAdapter, merge_adapters

RESULTS = Path(__file__).resolve().parent / "results"
RANK = 16
#: d_out and d_in of the seven linear layers of a block, and of a small stand-in.
BLOCK = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), (4096, 4096)),
    **dict.fromkeys(("gate_proj", "up_proj"), (11008, 4096)),
    "down_proj": (4096, 11008),
}
QUICK_BLOCK = {name: (rows // 16, columns // 16) for name, (rows, columns) in BLOCK.items()}


@dataclass(frozen=True)
class Ours:
    """Name one of our merges: its method, what it is asked, and how many layers are measured."""

    method: str
    asked: Mapping[str, Any]
    layers: int


OURS = {
    "linear": Ours("linear", {}, 32),
    "linear --rank 16": Ours("linear", {"rank": 16}, 32),
    "linear --energy 0.9": Ours("linear", {"energy": 0.9}, 1),
    "karcher": Ours("karcher", {}, 1),
    "tsv --rank 16": Ours("tsv", {"rank": 16}, 1),
    "iso --rank 16": Ours("iso", {"rank": 16}, 1),
    "wudi --rank 16": Ours("wudi", {"rank": 16}, 1),
    "lego": Ours("lego", {}, 1),
    "core --rank 16": Ours("core", {"rank": 16}, 1),
    "knots --rank 16": Ours("knots", {"rank": 16}, 1),
    "linear-factors": Ours("linear-factors", {}, 1),
    "ties-factors": Ours("ties-factors", {}, 1),
    "ties --rank 16": Ours("ties", {"rank": 16}, 1),
}
#: PEFT's name, which of ours does the same, and whether one matrix is all that can be waited for.
PEFT = {
    "cat": ("linear", False),
    "linear": ("linear-factors", False),
    "ties": ("ties-factors", False),
    "svd": ("linear --rank 16", True),
    "ties_svd": ("ties --rank 16", True),
}
#: mergekit's name, and which of ours does the same to an adapter.
MERGEKIT = {"task_arithmetic": "linear", "ties": "ties --rank 16"}


@dataclass(frozen=True)
class Case:
    """Say what one process does.

    Attributes:
        who: ours, peft or mergekit.
        what: the method, as its owner calls it.
        folder: where everything lies.
        adapters: how many.
        layers: blocks of the model.
        quick: small matrices.
        modules: names of the linear layers to merge; all where empty.
    """

    who: str
    what: str
    folder: str
    adapters: int
    layers: int
    quick: bool
    modules: tuple[str, ...] = ()

    @property
    def block(self) -> dict[str, tuple[int, int]]:
        """Return the shapes of the linear layers of a block."""
        block = QUICK_BLOCK if self.quick else BLOCK
        return {n: shape for n, shape in block.items() if not self.modules or n in self.modules}

    @property
    def inputs(self) -> Path:
        """Return where the adapters of so many layers and of these modules lie."""
        return Path(self.folder) / f"{self.layers}-{'+'.join(self.modules) or 'all'}"

    @property
    def measured(self) -> Path:
        """Return where the figures of this case are kept."""
        what = f"{self.who}-{self.what}-{self.adapters}".replace(" ", "_")
        return Path(self.folder) / "measured" / f"{what}-{self.inputs.name}.json"


@dataclass(frozen=True)
class Measured:
    """Hold what one process took.

    Attributes:
        cpu_s: of all its threads, without imports and preparation.
        wall_s: the same on the clock.
        peak_mb: resident memory at its highest.
        idle_mb: resident memory after imports.
        prepare_s: processor seconds to load adapters into a model, where one must.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    idle_mb: float
    prepare_s: float = 0.0


def write_adapter(folder: Path, seed: int, case: Case) -> None:
    """Write one adapter as PEFT does: A and B random, their spectrum falling by a fifth."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/seven-billion",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(case.block),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    infos = []
    for layer in range(case.layers):
        for name, (rows, columns) in case.block.items():
            stem = f"base_model.model.layers.{layer}.{name}"
            infos.append(TensorInfo(f"{stem}.lora_A.weight", "F16", (RANK, columns)))
            infos.append(TensorInfo(f"{stem}.lora_B.weight", "F16", (rows, RANK)))
    rng = np.random.default_rng(seed)
    falling = np.exp(-np.arange(RANK) / 5).astype(np.float32)
    with TensorWriter(
        folder / "adapter_model.safetensors", infos, metadata={"format": "pt"}
    ) as writer:
        for info in infos:
            values = rng.standard_normal(info.shape, np.float32) * np.float32(0.02)
            if info.shape[0] == RANK:
                values *= falling[:, None]
            writer.write(info.name, values.astype(np.float16).tobytes())


def run_ours(case: Case, work: Path) -> float:
    """Merge files into a folder."""
    ours = OURS[case.what]
    adapters = [WeightedAdapter(case.inputs / str(n)) for n in range(case.adapters)]
    merge_adapters(adapters, work / "out", Recipe(ours.method, {}, **ours.asked))
    return 0.0


def run_peft(case: Case, work: Path) -> float:
    """Load adapters into a model whose own weights take no memory, merge there, and save."""
    import peft  # noqa: PLC0415
    import torch  # noqa: PLC0415

    start = time.process_time()
    with torch.device("meta"):
        blocks = [
            torch.nn.ModuleDict(
                {
                    name: torch.nn.Linear(columns, rows, bias=False)
                    for name, (rows, columns) in case.block.items()
                }
            )
            for _ in range(case.layers)
        ]
        base = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(blocks)})
    base = base.to_empty(device="cpu")
    names = [f"a{n}" for n in range(case.adapters)]
    root = case.inputs
    model = peft.PeftModel.from_pretrained(base, str(root / "0"), adapter_name=names[0])
    for n, name in enumerate(names[1:], 1):
        model.load_adapter(root / str(n), name)
    prepared = time.process_time() - start
    weights = [1 / case.adapters] * case.adapters
    asked = {"density": 0.2} if "ties" in case.what else {}
    if case.what.endswith("svd"):
        asked["svd_rank"] = RANK
    tuner: Any = model.base_model
    tuner.add_weighted_adapter(names, weights, "both", combination_type=case.what, **asked)
    model.save_pretrained(str(work / "out"), selected_adapters=["both"])
    return prepared


def run_mergekit(case: Case, work: Path) -> float:
    """Merge dense tensors of the base and of models that the adapters were added to."""
    import torch  # noqa: PLC0415
    from mergekit import merge_methods  # noqa: PLC0415

    del work
    start = time.process_time()
    rng = np.random.default_rng(0)
    groups = []
    for rows, columns in case.block.values():
        base = torch.from_numpy(rng.standard_normal((rows, columns), np.float32)).bfloat16()
        models = []
        for _ in range(case.adapters):
            b = torch.from_numpy(rng.standard_normal((rows, RANK), np.float32))
            a = torch.from_numpy(rng.standard_normal((RANK, columns), np.float32))
            models.append(base + (0.01 * b @ a).bfloat16())
        groups.append([base, *models])
    prepared = time.process_time() - start
    weights = dict.fromkeys(range(1, case.adapters + 1), 1 / case.adapters)
    asked: dict[str, Any] = {"weight": weights}
    if case.what == "ties":
        asked["density"] = dict.fromkeys(weights, 0.2)
    for tensors in groups:
        merge_methods.merge_tensors(tensors, case.what, parameters=asked, base_index=0)
    return prepared


RUNNERS = {"ours": run_ours, "peft": run_peft, "mergekit": run_mergekit}


def resident_mb(field: str) -> float:
    """Read VmRSS or VmHWM, the highest so far, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(case: Case) -> None:
    """Do one case and print what it took."""
    if case.who == "peft":
        import peft  # noqa: F401, PLC0415
    if case.who == "mergekit":
        from mergekit import merge_methods  # noqa: F401, PLC0415
    idle = resident_mb("VmRSS")
    with tempfile.TemporaryDirectory(dir=case.folder) as work:
        cpu, wall = time.process_time(), time.perf_counter()
        prepared = RUNNERS[case.who](case, Path(work))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    found = Measured(cpu - prepared, wall, resident_mb("VmHWM"), idle, prepared)
    print(json.dumps(asdict(found)))


def measure(case: Case) -> Measured:
    """Run one case in a process of its own, if its figures are not there yet."""
    if case.measured.exists():
        return Measured(**json.loads(case.measured.read_text()))
    for n in range(case.adapters if case.who != "mergekit" else 0):
        if not (case.inputs / str(n)).exists():
            write_adapter(case.inputs / str(n), n, case)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.merge_speed"]
    done = subprocess.run(
        [*command, "--child", json.dumps(asdict(case))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = Measured(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{case.who} {case.what} ×{case.adapters}: {found}", file=sys.stderr)
    case.measured.parent.mkdir(exist_ok=True)
    case.measured.write_text(json.dumps(asdict(found)))
    return found


def main() -> None:
    """Print the tables and write them to `results/merge_speed.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 layers of small matrices")
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="keep adapters and figures here, to go on")
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        asked = json.loads(options.child)
        child(Case(**{**asked, "modules": tuple(asked["modules"])}))
        return
    from benchmarks.merge_speed_table import tables  # noqa: PLC0415

    layers = 2 if options.quick else options.layers
    with tempfile.TemporaryDirectory(prefix="merge-speed-") as folder:
        place = str(options.folder or folder)
        text = tables(Case("ours", "linear", place, options.adapters, layers, options.quick))
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "merge_speed.md").write_text(text)


if __name__ == "__main__":
    main()
