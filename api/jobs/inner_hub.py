"""Serve the hub inside a job's process, to the job alone, as whoever asked for it.

So a job uses the same client and workflows as everybody else, with the rights of who asked and no
more, and what it pushes is fenced by its lease. It listens on loopback and opens to one secret,
which never leaves the process.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from api.app import build_app, hub_of
from api.client import HubClient
from api.errors import StartError, TokenInvalidError
from api.remote.credentials import Access
from api.settings import AuthMode, HubSettings
from registry.service import Registry
from registry.tokens import Principal

_HOST = "127.0.0.1"
_START_S = 30.0
_POLL_S = 0.005


class OneCaller:
    """Know one secret and who holds it; be a `Doorkeeper` to the routes."""

    def __init__(self, secret: str, principal: Principal) -> None:
        self._expected = f"Bearer {secret}".encode()
        self._principal = principal

    def identify(self, authorization: str | None, address: str) -> Principal:
        """Return the one caller.

        Raises:
            TokenInvalidError: it is somebody else.
        """
        del address
        if not hmac.compare_digest((authorization or "").encode(), self._expected):
            raise TokenInvalidError("this hub serves a job, and nobody else")
        return self._principal


@contextmanager
def inner_hub(
    settings: HubSettings, registry: Registry, principal: Principal
) -> Iterator[HubClient]:
    """Give a client that acts as `principal` on a registry.

    Raises:
        StartError: the hub does not start.
    """
    secret = secrets.token_urlsafe(32)
    inside = {"host": _HOST, "auth": AuthMode.TOKEN, "presigned_downloads": False}
    unlimited = {"requests_per_minute": 0}
    own = settings.model_copy(update=inside | unlimited)
    app = build_app(hub_of(own, registry, OneCaller(secret, principal)))
    with socket.create_server((_HOST, 0)) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            with HubClient(Access(f"http://{_HOST}:{port}", secret)) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(_START_S)


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    for _ in range(int(_START_S / _POLL_S)):
        if server.started:
            return
        thread.join(_POLL_S)
        if not thread.is_alive():
            break
    raise StartError("the hub inside a job's process does not start")
