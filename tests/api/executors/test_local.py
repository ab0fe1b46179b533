"""Hold the executor's contract on this machine, and test what only processes can do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.executors.contract import Executor
from api.executors.local import TAIL_LINES, LocalExecutor
from api.jobs.worker import local_executor
from registry.jobs.values import Lease
from registry.service import Registry
from tests.contracts.executor import ExecutorContract, Maker, gone
from tests.jobs_kit import hub_at, lives, opened, until

LEASE = Lease("a" * 16, 1)
ROOT = Path(__file__).resolve().parents[3]


class TestLocal(ExecutorContract):
    """Run jobs in processes of this machine."""

    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        with opened(hub_at(tmp_path)) as registry:
            yield registry

    @pytest.fixture
    def make(self, tmp_path: Path) -> Maker:
        def maker(*, slots: int, gpus: int = 0) -> Executor:
            names = ",".join(str(7 * number + 3) for number in range(gpus))
            return local_executor(hub_at(tmp_path, job_gpus=names), slots=slots)

        return maker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def scripted(script: str, folder: Path, *, grace_s: float = 0.3) -> LocalExecutor:
    """Return an executor whose jobs are a script; `folder` is its first argument."""
    return LocalExecutor(
        (sys.executable, "-c", script, str(folder.parent)),
        lambda own, _gpus: {**os.environ, "TMPDIR": str(own)},
        folder=folder,
        slots=1,
        grace_s=grace_s,
    )


def written(path: Path) -> int:
    """Wait for a process id that a script writes."""
    until(lambda: path.is_file() and path.read_text().endswith("\n"))
    return int(path.read_text())


STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1], "child").write_text(f"{child.pid}\\n")
time.sleep(600)
"""


def test_who_ignores_the_request_is_killed_with_its_whole_group(folder: Path) -> None:
    executor = scripted(STUBBORN, folder)
    executor.start(LEASE, gpus=0)
    child = written(folder.parent / "child")
    executor.stop(LEASE)
    (ended,) = gone(executor, LEASE)
    assert ended.detail == "killed by SIGKILL"
    until(lambda: not lives(child), timeout_s=5)


LEAVES_A_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1], "child").write_text(f"{child.pid}\\n")
sys.exit(3)
"""


def test_what_a_job_leaves_behind_is_killed(folder: Path) -> None:
    executor = scripted(LEAVES_A_CHILD, folder)
    executor.start(LEASE, gpus=0)
    child = written(folder.parent / "child")
    (ended,) = gone(executor, LEASE)
    assert ended.detail == "ended with status 3"
    until(lambda: not lives(child), timeout_s=5)


def test_a_job_that_writes_much_neither_waits_nor_fills_memory(folder: Path) -> None:
    executor = scripted("for n in range(200_000): print(f'line {n}')", folder)
    executor.start(LEASE, gpus=0)
    (ended,) = gone(executor, LEASE)
    assert ended.tail[-1] == "line 199999"
    assert len(ended.tail) == TAIL_LINES


def test_each_attempt_has_a_folder_that_goes_with_it(folder: Path) -> None:
    script = (
        "import os, pathlib, sys, tempfile\n"
        "tempfile.mkdtemp()\n"
        "pathlib.Path(sys.argv[1], 'where').write_text(os.environ['TMPDIR'])"
    )
    executor = scripted(script, folder)
    executor.start(LEASE, gpus=0)
    gone(executor, LEASE)
    assert (folder.parent / "where").read_text() == str(folder / f"{LEASE.job}-1")
    assert list(folder.iterdir()) == []


def test_what_cannot_be_begun_takes_no_room(folder: Path) -> None:
    executor = LocalExecutor(
        (str(folder / "nothing"),), lambda _own, _gpus: {}, folder=folder, slots=1, gpus=("0",)
    )
    with pytest.raises(OSError, match="No such file"):
        executor.start(LEASE, gpus=1)
    assert executor.room() == 1
    assert executor.ended() == []


ORPHANED = """
import os, pathlib, sys, time
from api.executors.orphans import end_with
end_with(int(sys.argv[-1]))
pathlib.Path(sys.argv[1], "child").write_text(f"{os.getpid()}\\n")
time.sleep(600)
"""
SUPERVISOR = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.api.executors.test_local import LEASE, ORPHANED, scripted
scripted(ORPHANED, Path(sys.argv[1])).start(LEASE, gpus=0)
time.sleep(600)
"""


def test_a_killed_supervisor_takes_its_jobs_along(folder: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder)], cwd=ROOT)
    try:
        child = written(folder.parent / "child")
        assert lives(child)
    finally:
        supervisor.kill()
        supervisor.wait()
    until(lambda: not lives(child), timeout_s=5)


def test_who_is_orphaned_already_does_not_begin(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANED, str(folder.parent), "1"], cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert not (folder.parent / "child").exists()
