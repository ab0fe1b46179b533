"""Throw damaged and forged `.tern` files at the reader for a while.

    python benchmarks/fuzz_tern.py --seconds 60 [--seed 0]

Half of the files are changed at random, so that the seal must catch them; half get a new, right
seal and right checksums, so that the structure checks must hold alone. What counts as a failure:
any error that is no `TernError`, a damaged file that decodes, or a forged one that decodes to
tensors of other shapes than its index says.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from compress import Compeft, TernError, compress_adapter, decompress
from compress.container_read import TernFile
from compress.tensor_file import TensorFile, TensorInfo, TensorWriter

LIMIT_BYTES = 64 << 20


def seed_file(work: Path, seed: int) -> bytes:
    """Make a right file of a few tensors."""
    rng = np.random.default_rng(seed)
    infos = [
        TensorInfo("l.0.q.lora_A.weight", "F32", (4, int(rng.integers(1, 90)))),
        TensorInfo("l.0.q.lora_B.weight", "F16", (int(rng.integers(1, 90)), 4)),
        TensorInfo("head.weight", "F32", (2, 9)),
    ]
    with TensorWriter(work / "seed.safetensors", infos, metadata={"format": "pt"}) as writer:
        for info in infos:
            values = rng.standard_normal(info.size, np.float32)
            writer.write(info.name, values.astype("f4" if info.dtype == "F32" else "f2").tobytes())
    method = Compeft(density=float(rng.uniform(0.05, 1)))
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


def attempt(raw: bytes, work: Path, number: int) -> str:
    """Decode one file; name the outcome."""
    path, back = work / "x.tern", work / f"back-{number}.safetensors"
    path.write_bytes(raw)
    try:
        decompress(path, back, max_decoded_bytes=LIMIT_BYTES)
    except TernError as error:
        return type(error).__name__
    with TernFile(path) as tern, TensorFile(back) as file:
        wanted = {t.info.name: (t.info.dtype, t.info.shape) for t in tern.index.tensors}
        found = {info.name: (info.dtype, info.shape) for info in file.tensors.values()}
    back.unlink()
    if wanted != found:
        raise AssertionError(f"decoded to other shapes: {raw.hex()}")
    return "decoded"


def main() -> None:
    """Run until the time is over and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        number = 0
        while time.monotonic() < end:
            data = seed_file(work, rng.randrange(1 << 30))
            for _ in range(200):
                number += 1
                changed = mutate(data, rng)
                outcome = attempt(changed, work, number)
                if outcome == "decoded" and changed != data:
                    raise AssertionError(f"a damaged file was decoded: {changed.hex()}")
                outcomes[f"damaged: {outcome}"] += 1
                outcomes[f"forged: {attempt(forge(data, rng), work, -number)}"] += 1
    for name, count in sorted(outcomes.items()):
        print(f"{count:9,} {name}")


if __name__ == "__main__":
    main()
