"""Run command lines inside the test's process, with an environment of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import run


@dataclass(frozen=True, slots=True)
class Ran:
    """Hold what a command line gave.

    Attributes:
        code: its exit code.
        out: what it printed as data.
        err: what it told beside.
    """

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return its data, which must be JSON and nothing else."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Run `adapters …`.

    Attributes:
        captured: where output goes.
        folder: working folder of the commands.
        patch: changes to the environment.
    """

    captured: pytest.CaptureFixture[str]
    folder: Path
    patch: pytest.MonkeyPatch

    def __call__(self, *arguments: object, code: int = 0) -> Ran:
        """Run one command line and check its exit code."""
        self.captured.readouterr()
        hook = sys.excepthook
        try:
            got = run([str(argument) for argument in arguments])
        finally:
            sys.excepthook = hook
        shown = self.captured.readouterr()
        assert got == code, f"exit {got}\n{shown.out}\n{shown.err}"
        return Ran(got, shown.out, shown.err)

    def json(self, *arguments: object) -> Any:
        """Run one command line with `--json` and return its data."""
        return self(*arguments, "--json").json()


@contextmanager
def command_line(
    captured: pytest.CaptureFixture[str], folder: Path, endpoint: str
) -> Iterator[CommandLine]:
    """Give a command line whose settings and working folder are those of one test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ADAPTERS_TOKEN", "HF_TOKEN", "HF_ENDPOINT", "ADAPTERS_DATA_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("ADAPTERS_ENDPOINT", endpoint)
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        work = folder / "work"
        work.mkdir()
        patch.chdir(work)
        yield CommandLine(captured, work, patch)
