"""Hold the catalog's contracts on the embedded database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.catalog_pushes import BindingContract, PushContract
from tests.registry_kit import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, lambda name: f"sqlite:///{tmp_path / name}.sqlite")
    yield place
    place.close()


class TestPushes(PushContract):
    """Push to SQLite."""


class TestBinding(BindingContract):
    """Bind on SQLite."""
