"""Race for one branch from several processes; run by `test_push_races.py`."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

from registry.catalog.errors import BlobBusyError, BlobsMissingError, BranchConflictError
from registry.push_request import ANY, ExpectedHead
from registry.refs import Reference
from registry.service import Registry, RegistrySettings, open_registry
from registry.storage.blobs import BlobNotFoundError
from registry.storage.upload_session import OffsetMismatchError
from registry.storage.uploads import UploadBusyError
from tests.registry_kit import adapter_files, push

NAME = "team/x"
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Course:
    """Say where the race is run, and for how long."""

    folder: Path
    database_url: str
    rounds: int

    def open(self) -> Registry:
        """Open the registry that all race for."""
        settings = RegistrySettings(self.folder, database_url=self.database_url)
        return open_registry(settings)


def race(course: Course, racer: int, barrier: Barrier, expect_head: bool) -> None:
    """Push once a round at the same moment as all others; leave the wins in a file."""
    registry = course.open()
    won = []
    for number in range(course.rounds):
        barrier.wait()
        head: ExpectedHead = ANY
        if expect_head:
            head = registry.adapters.resolve(Reference.parse(NAME)).digest
        barrier.wait()
        with suppress(BranchConflictError):
            stubborn_push(registry, racer * 1000 + number, head)
            won.append(number)
    (course.folder / f"won-{racer}").write_text(" ".join(map(str, won)))
    registry.close()


def stubborn_push(registry: Registry, seed: int, head: ExpectedHead) -> None:
    """Push, and again whenever the collector took what had been sent."""
    files = adapter_files(seed)
    for _ in range(300):
        with suppress(
            BlobsMissingError,
            BlobBusyError,
            BlobNotFoundError,
            OffsetMismatchError,
            UploadBusyError,
        ):
            push(registry, NAME, files, message=str(seed), expected_head=head)
            return
    push(registry, NAME, files, message=str(seed), expected_head=head)


def collect(course: Course, stop: Event) -> None:
    """Collect garbage with next to no grace until told to stop."""
    registry = course.open()
    taken = 0
    while not stop.is_set():
        taken += len(registry.collector.collect(0.05).blobs)
    (course.folder / "taken").write_text(str(taken))
    registry.close()
