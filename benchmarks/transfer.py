"""Measure push and pull of a 1 GiB adapter against `cp` + sha256 of the same file, in one run.

    .venv/bin/python benchmarks/transfer.py [--size-mib 1024] [--folder DIR] [--rounds 3]

The hub runs in a process of its own on the embedded default (SQLite and a folder); its resident
memory is sampled every 10 ms. The best of the rounds counts on both sides, everything is in the
page cache, and the hub and `cp` write to the same disk (the hub also flushes to it, `cp` does not).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from api.cli.own_hub import own_hub
from api.client import HubClient, open_client
from api.workflows.pull import PullOptions, pull
from api.workflows.push import push
from registry.refs import Reference

WIDTH, RANK = 4096, 1024
RESULTS = Path(__file__).parent / "results" / "transfer.md"
AIM_RATIO, AIM_MEMORY_MIB = 1.5, 150.0


@dataclass(slots=True)
class Memory:
    """Sample what a process holds in memory."""

    process: psutil.Process
    peak_bytes: int = 0
    idle_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the context lasts."""
        self.idle_bytes = self.peak_bytes = self.process.memory_info().rss
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, self.process.memory_info().rss)


def write_adapter(folder: Path, size_bytes: int) -> Path:
    """Write a LoRA of random finite bfloat16 values, with a config that fits it."""
    folder.mkdir(parents=True)
    tensor_bytes = WIDTH * RANK * 2
    modules = max(1, size_bytes // (2 * tensor_bytes))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    shapes = (("lora_A", [RANK, WIDTH]), ("lora_B", [WIDTH, RANK]))
    names = [
        (f"base_model.model.model.layers.{i}.self_attn.q_proj.{factor}.weight", shape)
        for i in range(modules)
        for factor, shape in shapes
    ]
    for position, (name, shape) in enumerate(names):
        begin = position * tensor_bytes
        offsets = [begin, begin + tensor_bytes]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(7)
    path = folder / "adapter_model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in names:
            values = rng.integers(0, 1 << 16, WIDTH * RANK, dtype=np.uint16)
            file.write((values & np.uint16(0xBFFF)).tobytes())  # an exponent that is never infinite
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "bench/base",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path


def seconds(action: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def copy_and_hash(path: Path, target: Path, *, tool: bool = False, sync: bool = False) -> float:
    """Return the time of `cp`, with `sync` flushed to disk, and of sha256 over the copy."""

    def both() -> None:
        subprocess.run(["cp", "--reflink=never", str(path), str(target)], check=True)
        if tool:
            subprocess.run(["sha256sum", str(target)], check=True, stdout=subprocess.DEVNULL)
            return
        with target.open("rb") as file:
            if sync:
                os.fsync(file.fileno())
            hashlib.file_digest(file, "sha256")

    took = seconds(both)
    target.unlink()
    return took


@dataclass(slots=True)
class Times:
    """Gather the rounds of each measurement, in seconds."""

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, took: float) -> None:
        """Note one round."""
        self.rounds.setdefault(name, []).append(took)

    def best(self, name: str) -> float:
        """Return the best round."""
        return min(self.rounds[name])


def there_and_back(client: HubClient, name: Reference, place: Path, times: Times) -> None:
    """Push, push again and pull once."""
    folder, target = place / "adapter", place / "pulled"
    options = PullOptions(cache_dir=place / "cache")
    times.add("push", seconds(lambda: push(client, folder, name)))
    times.add("push again (nothing to send)", seconds(lambda: push(client, folder, name)))
    times.add("pull", seconds(lambda: pull(client, name, target, options=options)))
    shutil.rmtree(target)


def measure(place: Path, size_bytes: int, rounds: int) -> tuple[Times, dict[str, float]]:
    """Run everything; return times and the hub's memory in MiB."""
    folder = place / "adapter"
    file = write_adapter(folder, size_bytes)
    times = Times()
    with own_hub(place / "hub") as url, open_client(url) as client:
        port = int(url.rpartition(":")[2])
        memory = Memory(_process_listening(port))
        warm = place / "warm"
        write_adapter(warm, 1)
        push(client, warm, Reference.parse("bench/warm"))
        with memory.watched():
            for number in range(rounds):
                times.add("cp + sha256 (hashlib)", copy_and_hash(file, place / "copy"))
                times.add("cp + fsync + sha256", copy_and_hash(file, place / "copy", sync=True))
                times.add("cp + sha256sum", copy_and_hash(file, place / "copy", tool=True))
                # Another namespace shares nothing with the ones before: everything is sent again.
                there_and_back(client, Reference.parse(f"bench{number}/big"), place, times)
    mib = 1 << 20
    return times, {
        "idle": memory.idle_bytes / mib,
        "peak": memory.peak_bytes / mib,
        "above": (memory.peak_bytes - memory.idle_bytes) / mib,
    }


def describe_machine() -> str:
    """Name the machine and what runs on it, in a sentence."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    versions = ", ".join(f"{name} {version(name)}" for name in ("httpx2", "uvicorn", "fastapi"))
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, load {load:.1f} at the start, "
        f"Python {platform.python_version()}, {versions}."
    )


def _process_listening(port: int) -> psutil.Process:
    for child in psutil.Process().children(recursive=True):
        if any(c.laddr.port == port for c in child.net_connections() if c.status == "LISTEN"):
            return child
    raise SystemExit("the hub's process is not found")


def report(size_mib: int, times: Times, memory: dict[str, float]) -> str:
    """Write the table."""
    hashlib_s, tool_s = times.best("cp + sha256 (hashlib)"), times.best("cp + sha256sum")
    rounds = len(times.rounds["push"])
    lines = [
        "# Push and pull of one large adapter",
        "",
        f"{size_mib} MiB of bfloat16 LoRA weights, {rounds} rounds. {describe_machine()}",
        "",
        "| what | best s | median s | MiB/s | ÷ (cp + hashlib) | ÷ (cp + sha256sum) | aim |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, took in times.rounds.items():
        best = min(took)
        aim = f"≤ {AIM_RATIO}" if name in {"push", "pull"} else ""
        lines.append(
            f"| {name} | {best:.2f} | {statistics.median(took):.2f} | {size_mib / best:.0f} "
            f"| {best / hashlib_s:.2f} | {best / tool_s:.2f} | {aim} |"
        )
    held = (
        f"Memory of the hub: {memory['idle']:.0f} MiB idle, {memory['peak']:.0f} MiB at its peak, "
        f"{memory['above']:.0f} MiB above idle (aim: ≤ {AIM_MEMORY_MIB:.0f} MiB)."
    )
    return "\n".join([*lines, "", held, ""])


def main() -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; it needs 8 times the size")
    parser.add_argument("--no-save", action="store_true", help="do not write results/transfer.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        times, memory = measure(Path(name), arguments.size_mib << 20, arguments.rounds)
    text = report(arguments.size_mib, times, memory)
    print(text)
    if not arguments.no_save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
