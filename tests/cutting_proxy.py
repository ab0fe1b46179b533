"""Stand between a client and a hub, and cut connections in the middle, as bad networks do."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 16 << 10


@dataclass(slots=True)
class CuttingProxy:
    """Pass bytes on; cut a connection once it carried as many as its budget allows.

    Attributes:
        target: URL of the hub.
        up: budgets of bytes to the hub, one for each cut to come.
        down: budgets of bytes from the hub, likewise.
        cuts: how many connections were cut.
    """

    target: str
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    cuts: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _threads: list[threading.Thread] = field(default_factory=list)
    _closing: bool = False

    @property
    def url(self) -> str:
        """Return where the proxy answers."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            parts = urlsplit(self.target)
            hub = socket.create_connection((parts.hostname or "", parts.port or 80))
            pair = _Pair(client, hub)
            self._start(self._pump, pair, client, hub, self.up)
            self._start(self._pump, pair, hub, client, self.down)

    def _pump(
        self, pair: _Pair, source: socket.socket, sink: socket.socket, budgets: list[int]
    ) -> None:
        carried = 0
        try:
            while data := source.recv(_CHUNK):
                sink.sendall(data)
                carried += len(data)
                if budgets and carried >= budgets[0]:
                    budgets.pop(0)
                    self.cuts += 1
                    return
        except OSError:
            return
        finally:
            pair.cut()


@dataclass(slots=True)
class _Pair:
    """Be both ends of one connection."""

    client: socket.socket
    hub: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cut(self) -> None:
        """End both at once."""
        with self._lock:
            for end in (self.client, self.hub):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
