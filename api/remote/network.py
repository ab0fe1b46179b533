"""Read from the network in large pieces, so that a gigabyte is not sixteen thousand calls."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

READ_BYTES = 1 << 20


class BulkStream(httpcore2.NetworkStream):
    """Be a connection whose reads take as much as has arrived, up to a MiB."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has arrived; more than the caller names, which its HTTP parser is used to."""
        return self._stream.read(max(max_bytes, READ_BYTES), timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """Encrypt the connection from here on."""
        return BulkStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as in the base
        """Return what the connection knows of itself."""
        return self._stream.get_extra_info(info)


class BulkBackend(httpcore2.SyncBackend):
    """Open such connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect."""
        return BulkStream(super().connect_tcp(host, port, timeout, local_address, socket_options))


class BulkTransport(httpx2.HTTPTransport):
    """Be the ordinary transport, over such connections."""

    def __init__(self) -> None:
        # The base's constructor does nothing but make a pool, and offers no way to name a backend.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            keepalive_expiry=5.0,
            network_backend=BulkBackend(),
        )
