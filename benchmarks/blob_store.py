"""Measure what staging, storing and reading a blob cost, against `cp` and sha256 of the same file.

    python benchmarks/blob_store.py [MIB] [FOLDER]

Everything is measured in one run on one disk; the ratio is what counts. `cp` alone does not wait
for the disk, so it is measured with `sync` too: a store that acknowledges must wait.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from registry.digest import CHUNK_BYTES, Digest
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.uploads import Uploads

ROUNDS = 3
PIECE_BYTES = 64 << 10  # as an HTTP server hands bytes on


def copy_and_hash(source: Path, folder: Path, *, sync: bool) -> None:
    """Copy a file as a shell would, then hash the copy."""
    copy = folder / "copy"
    subprocess.run(["cp", str(source), str(copy)], check=True)
    if sync:
        subprocess.run(["sync", str(copy)], check=True)
    with copy.open("rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
    copy.unlink()


def upload(source: Path, folder: Path, digest: Digest) -> None:
    """Stage a file in the pieces of an HTTP body, then make a blob of it."""
    uploads, store = Uploads(folder / "uploads"), LocalBlobStore(folder / "store")
    size = source.stat().st_size
    with (
        source.open("rb") as file,
        uploads.open("team", digest, offset=0, size_bytes=size) as session,
    ):
        while piece := file.read(PIECE_BYTES):
            session.write(piece)
        session.finish(store)


def read(folder: Path, digest: Digest, *, start: int) -> int:
    """Read a blob, verified if from its start, and return how much came."""
    store = LocalBlobStore(folder / "store")
    return sum(len(chunk) for chunk in store.read(digest, start=start))


def median_s(work: Callable[[], object], *, clear: Path | None = None) -> float:
    """Return the median time of some rounds, each after a folder was cleared."""
    times = []
    for _ in range(ROUNDS):
        if clear is not None:
            shutil.rmtree(clear, ignore_errors=True)
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    """Measure and print the table."""
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    folder = Path(tempfile.mkdtemp(dir=sys.argv[2] if len(sys.argv) > 2 else None))
    try:
        source, hasher = folder / "source", hashlib.sha256()
        with source.open("wb") as file:
            for _ in range(mib):
                block = os.urandom(CHUNK_BYTES)
                hasher.update(block)
                file.write(block)
        digest = Digest(hasher.hexdigest())
        plain = median_s(lambda: copy_and_hash(source, folder, sync=False))
        rows = {
            "cp, sha256": plain,
            "cp, sync, sha256": median_s(lambda: copy_and_hash(source, folder, sync=True)),
            "upload, verified and durable": median_s(
                lambda: upload(source, folder, digest), clear=folder / "store"
            ),
            "verified read": median_s(lambda: read(folder, digest, start=0)),
            "unverified read": median_s(lambda: read(folder, digest, start=1)),
        }
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{mib} MiB, {os.cpu_count()} cores, peak memory {peak_mib:.0f} MiB")
        for name, seconds in rows.items():
            speed, ratio = mib / 1024 / seconds, seconds / plain
            print(f"{name:30} {seconds:6.2f} s {speed:6.2f} GiB/s {ratio:5.2f}x")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
