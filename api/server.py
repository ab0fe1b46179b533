"""Run a hub: bind, serve, and stop gracefully when told to.

A first SIGINT or SIGTERM stops accepting and lets requests finish; uploads that are cut off by
the end of the grace time keep what arrived. Jobs run in a worker beside it, never in this process.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from anyio import to_thread

from api.app import create_app
from api.hub import logs
from api.hub.protocol import protocol_for
from api.jobs.beside import WorkerBeside
from api.settings import HubSettings

Ready = Callable[[str], None]


class _Server(uvicorn.Server):
    """Tell the address once connections are accepted, and everybody else when to end."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Ready | None,
        *,
        closing: threading.Event,
        worker: WorkerBeside,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._closing = closing
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: let endless answers end."""
        self._closing.set()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish requests, then stop the worker: after this the signal ends the process."""
        await super().shutdown(sockets)
        await to_thread.run_sync(self._worker.stop)

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
    worker = WorkerBeside(settings)
    worker.start()
    try:
        _Server(config, ready, closing=app.state.hub.closing, worker=worker).run()
    finally:
        worker.stop()
