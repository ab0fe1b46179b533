"""Kill -9 a process at many points of a push, and look at what is left.

By default a spread of points is tried; with TEST_CRASH_ALL=1 every one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.catalog.values import AdapterQuery
from registry.refs import AdapterName, Reference
from registry.service import Registry, RegistrySettings, open_registry
from tests.conftest import ROOT
from tests.real.push_once import NAME
from tests.registry_kit import adapter_files, push, snapshot

POINTS = 16
SEED = 7


def run_push(folder: Path, *, die_at: int, log: Path | None = None) -> int:
    """Push in another process that dies at a step, and return its exit code."""
    command = [sys.executable, str(ROOT / "tests" / "crash_runner.py"), str(die_at)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"CRASH_LOG": str(log)} if log else {}
    done = subprocess.run(
        [*command, "tests.real.push_once", str(folder), str(SEED)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr.decode()
    return done.returncode


def check_whole(registry: Registry) -> None:
    """Check that every revision has every byte, and that nothing waits to be recorded."""
    assert not [verdict for verdict in registry.verifier.verify() if not verdict.ok]
    assert registry.recorder.record_moves() == 0
    assert registry.recorder.record_bases() == 0


def check_rebuilt(registry: Registry, folder: Path) -> None:
    """Check that the store alone tells the same."""
    rebuilt = open_registry(
        RegistrySettings(folder / "rebuilt", store_url=str(registry.settings.data_dir / "store"))
    )
    report = rebuilt.rebuilder.rebuild()
    assert report.damaged == ()
    assert snapshot(rebuilt) == snapshot(registry)
    rebuilt.close()


def check_after(folder: Path, scratch: Path) -> None:
    """Check what a dead push left: the old state or the new one; then that a retry finishes it."""
    registry = open_registry(RegistrySettings(folder))
    name = AdapterName.parse(NAME)
    (record,) = registry.adapters.list(AdapterQuery()).items
    acknowledged = folder / "acknowledged"
    finished = record.revisions == 2
    assert not acknowledged.exists() or finished
    assert [ref.name for ref in record.tags] == (["v0", f"v{SEED}"] if finished else ["v0"])
    check_whole(registry)
    result = push(
        registry,
        NAME,
        adapter_files(SEED, modules=("layers.0.q", f"layers.{SEED}.v")),
        message=f"push {SEED}",
        tags=(f"v{SEED}",),
    )
    assert result.created != finished
    log = registry.adapters.log(Reference(name)).items
    assert [revision.manifest.message for revision in log] == [f"push {SEED}", "push 0"]
    assert {ref.name for ref in log[0].refs} == {"main", f"v{SEED}"}
    check_whole(registry)
    check_rebuilt(registry, scratch)
    registry.close()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry that holds one revision."""
    folder = tmp_path_factory.mktemp("before")
    registry = open_registry(RegistrySettings(folder))
    push(registry, NAME, adapter_files(0), message="push 0", tags=("v0",))
    registry.close()
    return folder


@pytest.fixture(scope="module")
def steps(before: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Count the durable steps of a push that nothing stops."""
    folder = tmp_path_factory.mktemp("whole") / "registry"
    shutil.copytree(before, folder)
    log = folder / "steps"
    assert run_push(folder, die_at=0, log=log) == 0
    check_after(folder, folder / "scratch")
    return len(log.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_a_killed_push_leaves_the_old_state_or_the_new(
    before: Path, steps: int, tmp_path: Path, point: int
) -> None:
    every = os.environ.get("TEST_CRASH_ALL") == "1"
    chosen = range(1 + point, steps + 1, POINTS) if every else [1 + point * steps // POINTS]
    for step in chosen:
        folder = tmp_path / f"step-{step}"
        shutil.copytree(before, folder)
        assert run_push(folder, die_at=step) == -signal.SIGKILL
        check_after(folder, tmp_path / f"scratch-{step}")


def test_there_are_many_points_to_die_at(steps: int) -> None:
    assert steps > POINTS
