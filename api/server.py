"""Run a hub: bind, serve, and stop gracefully when told to.

A first SIGINT or SIGTERM stops accepting and lets requests finish; uploads that are cut off by
the end of the grace time keep what arrived.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from api.app import create_app
from api.hub import logs
from api.hub.protocol import protocol_for
from api.settings import HubSettings

Ready = Callable[[str], None]


class _Server(uvicorn.Server):
    """Tell the address once connections are accepted."""

    def __init__(self, config: uvicorn.Config, ready: Ready | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started and self._ready is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            self._ready(f"http://{name}:{port}")


def serve(settings: HubSettings, *, ready: Ready | None = None) -> None:
    """Run a hub until a signal stops it.

    Args:
        settings: how it is configured; port 0 takes a free one.
        ready: called with the URL once the hub accepts connections.

    Raises:
        StartError: as configured, it would be open to strangers or nobody could administer it.
        StorageError: database or store cannot be opened.
        OSError: the address cannot be bound.
    """
    logs.configure(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="auto",
        http=protocol_for(settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    _Server(config, ready).run()
