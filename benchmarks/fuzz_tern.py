"""Throw damaged and forged `.tern` files of every method at the reader for a while.

    python -m benchmarks.fuzz_tern --seconds 60 [--seed 0]

Some files are changed or cut at random, so that seal and digests must catch them, whether all of a
file is wanted or only its first layers; some get a new, right seal and right checksums, so that the
structure checks must hold alone; and of files with layers the index itself lies, about shapes,
sizes and numbers. What counts as a failure: any error that is no `TernError` (warnings are errors,
and memory is limited), a damaged file that decodes to anything but the original, a forged one that
decodes to tensors of other shapes than its index says, one that takes more than a minute, and any
file of which machine code and NumPy make different things.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import tempfile
import time
import warnings
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.forged_layers import Parts, put_together, take_apart
from compress import Compeft, Heads, Lossless, Rd, TernError, compress_adapter, decompress, loops
from compress.container import Index
from compress.container_read import TernFile
from compress.layers import Layers, Unit
from compress.tensor_file import TensorFile, TensorInfo, TensorWriter

LIMIT_BYTES = 64 << 20
#: Of address space, libraries and all.
MEMORY_BYTES = 4 << 30
SLOWEST_S = 60
#: Numbers that an index might lie with.
LIES = (0, 1, 2, 3, 7, 255, 1 << 14, 1 << 20, 1 << 31, 1 << 40, 1 << 60)


def seed_file(work: Path, seed: int) -> bytes:
    """Make a right file of a few tensors with a method of chance."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    infos = [
        TensorInfo("l.0.q.lora_A.weight", "F32", (rank, int(rng.integers(1, 90)))),
        TensorInfo("l.0.q.lora_B.weight", "F16", (int(rng.integers(1, 90)), rank)),
        TensorInfo("l.1.q.lora_A.weight", "BF16", (2, 30)),
        TensorInfo("l.1.q.lora_B.weight", "F32", (20, 2)),
        TensorInfo("head.weight", "F32", (20, 60)),
    ]
    with TensorWriter(work / "seed.safetensors", infos, metadata={"format": "pt"}) as writer:
        for info in infos:
            values = rng.standard_normal(info.size, np.float32)
            bits = values.view(np.uint32) >> 16
            cast = {"F32": values, "F16": values.astype("f2"), "BF16": bits.astype("u2")}
            writer.write(info.name, cast[info.dtype].tobytes())
    heads = list(Heads)[int(rng.integers(3))]
    methods: list[Compeft | Lossless | Rd] = [
        Compeft(density=float(rng.uniform(0.05, 1))),
        Lossless(),
        Rd(layers=int(rng.integers(1, 5)), heads=heads),
        Rd(max_error=float(rng.uniform(0.05, 0.8)), heads=heads),
    ]
    method = methods[int(rng.integers(len(methods)))]
    with warnings.catch_warnings():
        # what matters here is the reader
        warnings.simplefilter("ignore")
        compress_adapter(work / "seed.safetensors", work / "seed.tern", method=method)
    return (work / "seed.tern").read_bytes()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, or move, drop or double a piece."""
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, size = rng.randrange(len(raw)), rng.choice((1, 2, 4, 16))
        match rng.randrange(4):
            case 0:
                raw[at : at + size] = rng.randbytes(min(size, len(raw) - at))
            case 1:
                raw[at] ^= 1 << rng.randrange(8)
            case 2:
                del raw[at : at + size]
            case _:
                raw[at:at] = raw[at : at + size]
        raw = raw or bytearray(b"\0")
    return bytes(raw)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut a file anywhere."""
    return data[: rng.randrange(len(data))]


def forge(data: bytes, rng: random.Random) -> bytes:
    """Change bytes of one stream, then make its checksum and the seal right again."""
    start = 8 + int.from_bytes(data[:8], "little")
    raw = bytearray(data)
    at = rng.randrange(start + 32, len(raw))
    raw[at] = rng.randrange(256)
    head = len(raw) - rng.choice((0, 0, 30))
    if rng.random() < 0.5:
        raw[at : at + 4] = zlib.crc32(raw[at + 4 : head]).to_bytes(4, "little")[: len(raw) - at]
    digest = hashlib.sha256(raw[:start] + raw[start + 32 :]).digest()
    raw[start : start + 32] = digest
    return bytes(raw)


def forge_layers(parts: Parts, rng: random.Random) -> bytes:
    """Change a part or what the index says, and make every digest and the seal right again."""
    match rng.randrange(6):
        case 0 | 1 if parts.layers:
            at = rng.randrange(len(parts.layers))
            pieces = list(parts.layers)
            pieces[at] = mutate(pieces[at] or b"\0", rng)
            described = parts.index.layers
            assert described is not None
            rows = [list(row) for row in described.blocks]
            rows[at][0] += len(pieces[at]) - len(parts.layers[at])
            blocks = tuple(tuple(max(0, size) for size in row) for row in rows)
            index = replace(parts.index, layers=replace(described, blocks=blocks))
            return put_together(replace(parts, index=index, layers=tuple(pieces)))
        case 2 if parts.heads:
            return put_together(replace(parts, heads=mutate(parts.heads, rng)))
        case 3 if parts.exact:
            return put_together(replace(parts, exact=mutate(parts.exact, rng)))
        case 4:
            return put_together(replace(parts, index=lie_of_a_shape(parts.index, rng)))
    described = lie_of_layers(parts.index.layers, rng)
    return put_together(replace(parts, index=replace(parts.index, layers=described)))


def lie_of_a_shape(index: Index, rng: random.Random) -> Index:
    """Let the index say another shape or type of one tensor."""
    tensors = list(index.tensors)
    at = rng.randrange(len(tensors))
    info = tensors[at].info
    shape = list(info.shape)
    shape[rng.randrange(len(shape))] = rng.choice(LIES)
    dtype = rng.choice((info.dtype, "F32", "F16", "BF16", "F8_E5M2"))
    tensors[at] = replace(tensors[at], info=TensorInfo(info.name, dtype, tuple(shape)))
    return replace(index, tensors=tuple(tensors))


def lie_of_layers(described: Layers | None, rng: random.Random) -> Layers | None:
    """Let the index say another size or number of its layers."""
    if described is None:
        return None
    lie = rng.choice(LIES)
    numbers = (lie,) * max(1, len(described.modules))
    rows = list(described.blocks) or [(0,)]
    rows[rng.randrange(len(rows))] = numbers[: len(rows[0])]
    changes: list[dict[str, object]] = [
        {"unit": Unit(rng.choice((1e-300, 1e300, 5e-324, 1.0)), rng.choice((1, 2, 255)))},
        {"gain": rng.choice((1e-300, 1e300, 5e-324, 1e38))},
        {"modules": numbers},
        {"sides": numbers},
        {"blocks": tuple(rows)},
    ]
    return replace(described, **rng.choice(changes))  # type: ignore[arg-type]  # of any field


def attempt(raw: bytes, work: Path, number: int, *, layers: int | None = None) -> str | bytes:
    """Decode one file by machine code and by NumPy; name the error, or give what came out."""
    outcome = decode(raw, work, number, layers=layers)
    with loops.only_numpy():
        if outcome != decode(raw, work, number, layers=layers):
            raise AssertionError(f"machine code and NumPy decode otherwise: {raw.hex()}")
    return outcome


def decode(raw: bytes, work: Path, number: int, *, layers: int | None) -> str | bytes:
    """Decode one file; name the error, or give the bytes that came out."""
    path, back = work / "x.tern", work / f"back-{number}.safetensors"
    path.write_bytes(raw)
    begin = time.monotonic()
    try:
        decompress(path, back, max_decoded_bytes=LIMIT_BYTES, layers=layers)
    except TernError as error:
        return type(error).__name__
    finally:
        if time.monotonic() - begin > SLOWEST_S:
            raise AssertionError(f"decoding took too long: {raw.hex()}")
    with TernFile(path, layers=layers) as tern, TensorFile(back) as file:
        wanted = {t.info.name: (t.info.dtype, t.info.shape) for t in tern.index.tensors}
        found = {info.name: (info.dtype, info.shape) for info in file.tensors.values()}
    decoded = back.read_bytes()
    back.unlink()
    if wanted != found:
        raise AssertionError(f"decoded to other shapes: {raw.hex()}")
    return decoded


def one_seed(work: Path, rng: random.Random, outcomes: Counter[str], *, changes: int = 100) -> None:
    """Make a right file and try so many changed ones of every kind."""
    data = seed_file(work, rng.randrange(1 << 30))
    parts = take_apart(work / "seed.tern")
    layered = bool(parts.layers)
    right: dict[int | None, str | bytes] = {None: attempt(data, work, 0)}
    right |= {n: attempt(data, work, 0, layers=n) for n in range(1, len(parts.layers) + 1)}
    if not all(isinstance(decoded, bytes) for decoded in right.values()):
        raise AssertionError(f"a right file is refused: {data.hex()}")
    for number in range(changes):
        layers = rng.choice(list(right))
        changed = mutate(data, rng) if rng.random() < 0.7 else cut(data, rng)
        outcome = attempt(changed, work, number, layers=layers)
        if isinstance(outcome, bytes) and outcome != right[layers]:
            raise AssertionError(f"a damaged file decodes otherwise: {changed.hex()}")
        wanted = "whole" if layers is None else "layers"
        outcomes[f"damaged, {wanted}: {_name(outcome)}"] += 1
        if layers is None and isinstance(outcome, bytes) and changed != data:
            raise AssertionError(f"a damaged file was decoded: {changed.hex()}")
        outcomes[f"resealed: {_name(attempt(forge(data, rng), work, number))}"] += 1
        if layered:
            forged = forge_layers(parts, rng)
            outcomes[f"lying layers: {_name(attempt(forged, work, number))}"] += 1


def _name(outcome: str | bytes) -> str:
    return "decoded" if isinstance(outcome, bytes) else outcome


def main() -> None:
    """Run until the time is over and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    loops.compile_all()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            one_seed(Path(folder), rng, outcomes)
    for name, count in sorted(outcomes.items()):
        print(f"{count:9,} {name}")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{sum(outcomes.values()):9,} in all; peak of memory {peak_mib} MiB")


if __name__ == "__main__":
    main()
