"""Write the files that `test_golden.py` pins: run it only when a new version of the format begins.

    python -m tests.compress.rate_distortion.golden

It prints every file in base 85 and the digest of what each of its layers decodes to. Encoders may
write other bytes later; what was written once must decode to the same for ever.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from compress import Heads, Lossless, Rd, compress_adapter, decompress
from compress.container_read import TernFile
from tests.compress.rate_distortion import made
from tests.compress.rate_distortion.made import Tensors

WEIGHTS = "adapter_model.safetensors"


def tensors() -> Tensors:
    """Make two modules of different types, a vector head to round, and what is kept exactly."""
    source = made.factors(5, modules=2, rank=3, sizes=(20, 24))
    b = f"{made.PREFIX}.1.q.lora_B.weight"
    source[b] = source[b].astype(ml_dtypes.bfloat16)
    head = np.sin(np.arange(16 * 70)).reshape(16, 70)
    source["base_model.model.score.weight"] = head.astype(np.float16)
    source["base_model.model.steps"] = np.array([7, -1])
    return source


def digests(path: Path, layers: int) -> list[str]:
    """Give the sha256 of the weights with every number of layers, all of them last."""
    found = []
    with tempfile.TemporaryDirectory() as work:
        for count in [*range(1, layers), None]:
            out = Path(work) / str(count)
            decompress(path, out, layers=count)
            found.append(hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest())
    return found


def main() -> None:
    """Write both files and print them."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = made.save(work / "source", tensors())
        for method in (Rd(layers=3, heads=Heads.INT4), Lossless()):
            path = work / f"{type(method).__name__}.tern"
            compress_adapter(source, path, method=method)
            with TernFile(path) as tern:
                layers = tern.layer_count
            sys.stdout.write(base64.b85encode(path.read_bytes()).decode() + "\n")
            sys.stdout.write("\n".join(digests(path, layers)) + "\n")


if __name__ == "__main__":
    main()
