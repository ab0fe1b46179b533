"""Share one open hub among the tests of a module, and real files to push."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.live_hub import LiveHub, start_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Give a hub on loopback that needs no token, in a process of its own."""
    with start_hub(tmp_path_factory.mktemp("hub")) as live:
        yield live


@pytest.fixture
def http(hub: LiveHub) -> Iterator[httpx2.Client]:
    """Give an HTTP client of that hub's API."""
    with hub.client() as client:
        yield client
