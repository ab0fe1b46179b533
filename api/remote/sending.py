"""Send one blob to a hub, going on where an earlier attempt stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from api.client import HubClient, adapter_path
from api.ranges import Span
from api.remote.answers import RETRYABLE_STATUS
from api.remote.errors import FileChangedError, HubError, HubUnreachableError
from api.remote.progress import Advance
from api.remote.transport import retry_after_s
from api.schemas_requests import BlobIn
from registry.digest import Digest
from registry.refs import AdapterName

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Be a local file that is to be sent.

    Attributes:
        path: where it lies.
        name: how the adapter calls it.
        digest: what it held when it was hashed.
        size_bytes: how long it was then.
    """

    path: Path
    name: str
    digest: Digest
    size_bytes: int


class BlobSender:
    """Send blobs for one adapter.

    Attributes:
        sent_bytes: what went over the wire, repetitions included.
    """

    def __init__(self, client: HubClient, adapter: AdapterName) -> None:
        self._client = client
        self._adapter = adapter
        self.sent_bytes = 0

    def send(self, blob: Outgoing, offset: int, advance: Advance) -> None:
        """Send a blob from `offset` on; a lost connection is resumed where the hub says.

        Raises:
            HubError: the hub refuses it.
            HubUnreachableError: the hub is gone for good.
            FileChangedError: the file is not what it was when it was hashed.
        """
        retry = self._client.transport.retry
        failures, best, at = 0, offset, offset
        advance(offset)
        while True:
            try:
                if self._send_from(blob, at):
                    advance(blob.size_bytes - best)
                    return
            except (httpx2.TransportError, HubError) as error:
                if not _passing(error):
                    raise _explained(error, blob) from error
                failures += 1
                if failures >= retry.attempts:
                    raise _given_up(error, self._client.endpoint) from error
                asked = retry_after_s(error) if isinstance(error, HubError) else None
                retry.sleep(retry.wait_s(failures, asked))
            arrived = self._arrived(blob)
            at = blob.size_bytes if arrived is None else arrived
            if at > best:
                advance(at - best)
                best, failures = at, 0
            if arrived is None:
                return

    def _send_from(self, blob: Outgoing, offset: int) -> bool:
        """Send once; return whether the hub stored the blob."""
        headers = {"Content-Length": str(blob.size_bytes - offset)}
        headers["Content-Type"] = "application/octet-stream"
        if offset:
            left = blob.size_bytes - offset
            headers["Content-Range"] = Span(offset, left, blob.size_bytes).content_range
        path = adapter_path(self._adapter, "blobs", str(blob.digest))
        content = self._chunks(blob, offset)
        with self._client.transport.stream(
            "PUT", path, content=content, headers=headers
        ) as response:
            response.read()
            return response.status_code != httpx2.codes.ACCEPTED

    def _chunks(self, blob: Outgoing, offset: int) -> Iterator[bytes]:
        left = blob.size_bytes - offset
        with blob.path.open("rb") as file:
            file.seek(offset)
            while left:
                chunk = file.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise FileChangedError(blob.name)
                yield chunk
                left -= len(chunk)
                self.sent_bytes += len(chunk)

    def _arrived(self, blob: Outgoing) -> int | None:
        """Return how many bytes the hub has staged; None if it has stored the blob."""
        asked = BlobIn(digest=str(blob.digest), size_bytes=blob.size_bytes)
        return self._client.missing(self._adapter, [asked]).get(blob.digest)


def _passing(error: httpx2.TransportError | HubError) -> bool:
    """Return whether sending again from where the hub stands can help."""
    if isinstance(error, HubError):
        return error.status in RETRYABLE_STATUS or (error.status == 409 and "offset" in error.extra)
    return True


def _explained(error: httpx2.TransportError | HubError, blob: Outgoing) -> Exception:
    if isinstance(error, HubError) and error.code == "digest-mismatch":
        return FileChangedError(blob.name)
    return error


def _given_up(error: httpx2.TransportError | HubError, endpoint: str) -> Exception:
    return error if isinstance(error, HubError) else HubUnreachableError(endpoint, str(error))
