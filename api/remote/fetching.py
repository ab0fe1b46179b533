"""Fetch one file of a revision: streamed, resumed after a break, and checked against its digest.

What has arrived of a file waits in the cache under its digest, so that a pull that was killed goes
on where it stopped.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx2

from api.client import HubClient, adapter_path
from api.remote.answers import RETRYABLE_STATUS
from api.remote.errors import HubError, HubUnreachableError
from api.remote.hashed_file import HashedFile
from api.remote.progress import Advance
from api.remote.transport import retry_after_s
from registry.digest import Digest, DigestMismatchError
from registry.manifest_json import FileBody
from registry.refs import AdapterName


class BlobFetcher:
    """Fetch blobs of one adapter.

    Attributes:
        fetched_bytes: what came over the wire.
    """

    def __init__(self, client: HubClient, adapter: AdapterName, cache_dir: Path) -> None:
        self._client = client
        self._adapter = adapter
        self._partials = cache_dir / "partial"
        self.fetched_bytes = 0

    def fetch(self, file: FileBody, destination: Path, advance: Advance) -> None:
        """Write a file to `destination`, which appears whole and right or not at all.

        Raises:
            HubError: the hub refuses.
            HubUnreachableError: the hub is gone for good.
            DigestMismatchError: what came, twice, is not what the digest names.
        """
        digest = Digest.parse(file.digest)
        with self._partial(digest) as partial:
            if partial.stat().st_size > file.size_bytes:
                partial.write_bytes(b"")
            advance(partial.stat().st_size)
            actual = self._complete(file, partial, advance, stop=file.size_bytes)
            if actual != digest:
                # Perhaps what an earlier pull left was damaged: once more, from the start.
                advance(-partial.stat().st_size)
                partial.write_bytes(b"")
                actual = self._complete(file, partial, advance, stop=file.size_bytes)
            if actual != digest:
                partial.write_bytes(b"")
                raise DigestMismatchError(digest, actual)
            _move(partial, destination)

    def fetch_prefix(self, file: FileBody, path: Path, size_bytes: int, advance: Advance) -> None:
        """Let `path`, which holds the first bytes of a file, hold as many; nothing is checked.

        Raises:
            HubError: the hub refuses.
            HubUnreachableError: the hub is gone for good.
        """
        if path.stat().st_size < size_bytes:
            self._complete(file, path, advance, stop=size_bytes)

    @contextmanager
    def _partial(self, digest: Digest) -> Iterator[Path]:
        """Hold the partial file of a digest, alone among processes."""
        self._partials.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._partials / f"{digest.hex}.part"
        with (self._partials / f"{digest.hex}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path.touch(mode=0o644)
            try:
                yield path
            finally:
                if not path.exists():
                    (self._partials / f"{digest.hex}.lock").unlink(missing_ok=True)

    def _complete(self, file: FileBody, partial: Path, advance: Advance, *, stop: int) -> Digest:
        """Fetch what is missing of a partial file up to `stop`; return its digest."""
        retry = self._client.transport.retry
        failures = 0
        with HashedFile(partial) as target:
            while target.size_bytes < stop:
                before = target.size_bytes
                try:
                    self._fetch_rest(file, target, advance, stop=stop)
                    if target.size_bytes == before:
                        _refuse_empty(self._client.endpoint)
                except (httpx2.TransportError, HubError) as error:
                    if isinstance(error, HubError) and error.status not in RETRYABLE_STATUS:
                        raise
                    failures = 1 if target.size_bytes > before else failures + 1
                    if failures >= retry.attempts:
                        raise _given_up(error, self._client.endpoint) from error
                    asked = retry_after_s(error) if isinstance(error, HubError) else None
                    retry.sleep(retry.wait_s(failures, asked))
            return target.digest()

    def _fetch_rest(
        self, file: FileBody, target: HashedFile, advance: Advance, *, stop: int
    ) -> None:
        offset, cut = target.size_bytes, stop < file.size_bytes
        headers = {"Range": f"bytes={offset}-{stop - 1 if cut else ''}"} if offset or cut else {}
        path = adapter_path(self._adapter, "blobs", file.digest)
        with self._client.transport.stream("GET", path, headers=headers, follow=True) as response:
            if headers and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                raise HubError(
                    "the hub sends the whole file where a part was asked for",
                    status=response.status_code,
                    code="range-ignored",
                )
            left = stop - offset
            for chunk in response.iter_raw():
                data = chunk[:left]
                target.write(data)
                left -= len(data)
                self.fetched_bytes += len(data)
                advance(len(data))
                if len(chunk) > len(data):
                    break


def _refuse_empty(endpoint: str) -> NoReturn:
    raise httpx2.RemoteProtocolError(f"{endpoint} sent nothing of what is missing still")


def _given_up(error: httpx2.TransportError | HubError, endpoint: str) -> Exception:
    return error if isinstance(error, HubError) else HubUnreachableError(endpoint, str(error))


def _move(source: Path, destination: Path) -> None:
    """Move within one disk by renaming, across disks by copying and then renaming."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(destination)
    except OSError:
        part = destination.with_name(destination.name + ".part")
        shutil.copyfile(source, part)
        part.replace(destination)
        source.unlink()
