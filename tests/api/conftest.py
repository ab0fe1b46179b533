"""Share hubs among the tests: one in a process of its own, and ones inside the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.client import HubClient
from api.remote.credentials import Access
from api.remote.transport import RetryPolicy
from api.settings import HubSettings
from tests.command_line import CommandLine, command_line
from tests.live_hub import LiveHub, start_hub

HubMaker: TypeAlias = Callable[..., TestClient]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Give a hub on loopback that needs no token, in a process of its own."""
    with start_hub(tmp_path_factory.mktemp("hub")) as live:
        yield live


@pytest.fixture(scope="module")
def http(hub: LiveHub) -> Iterator[httpx2.Client]:
    """Give an HTTP client of that hub's API."""
    with hub.client() as client:
        yield client


@pytest.fixture
def make_hub(tmp_path: Path) -> Iterator[HubMaker]:
    """Give a maker of hubs inside this process: `make_hub(max_file_bytes=10)`."""
    with ExitStack() as stack:

        def make(**settings: Any) -> TestClient:
            app = create_app(HubSettings(data_dir=tmp_path / "data", **settings))
            client = TestClient(
                app, base_url="http://localhost/api/v1", raise_server_exceptions=False
            )
            return stack.enter_context(client)

        yield make


@pytest.fixture
def cli(hub: LiveHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """Give a command line that speaks to the module's hub."""
    with command_line(capsys, tmp_path, hub.url) as line:
        yield line


@pytest.fixture
def client(hub: LiveHub) -> Iterator[HubClient]:
    """Give a client of the module's hub that does not wait long between tries."""
    retry = RetryPolicy(first_wait_s=0.01, longest_wait_s=0.1)
    with HubClient(Access(hub.url), retry=retry) as opened:
        yield opened
