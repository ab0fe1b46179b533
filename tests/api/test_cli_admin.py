"""Administer a hub on the spot: tokens, garbage, a lost database, and starting it at all."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli.own_hub import own_hub
from api.remote.errors import TourError
from tests.command_line import CommandLine, command_line
from tests.hub_pushes import small_adapter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def cli(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """Give a command line beside a hub of its own, which both see the same folder."""
    with own_hub(data_dir) as url, command_line(capsys, tmp_path, url) as line:
        line.patch.setenv("ADAPTERS_DATA_DIR", str(data_dir))
        folder = line.folder / "adapter"
        folder.mkdir()
        for name, data in small_adapter(41).items():
            (folder / name).write_bytes(data)
        yield line


def test_tokens_on_the_spot(cli: CommandLine) -> None:
    told = cli.json("admin", "token", "create", "--namespace", "*", "--role", "admin")
    assert told["secret"].startswith("tern_")
    assert told["role"] == "admin"
    text = cli("admin", "token", "create", "--namespace", "team", "--label", "ci")
    assert text.out.startswith("tern_")
    assert "not shown again" in text.err
    listed = cli.json("admin", "token", "list")
    assert {item["namespace"] for item in listed} == {"*", "team"}
    assert told["id"] in cli("admin", "token", "list", "-q").out.split()
    cli("admin", "token", "revoke", told["id"], "-y")
    states = {item["id"]: item["revoked_at"] for item in cli.json("admin", "token", "list")}
    assert states[told["id"]]
    assert "revoked" in cli("admin", "token", "list").out
    assert "no token" in cli("admin", "token", "revoke", "ffff", "-y", code=1).err
    cli("admin", "token", "create", "--namespace", "no/slash", code=1)


def test_garbage_goes_after_its_grace(cli: CommandLine) -> None:
    cli("push", "./adapter", "team/kept")
    (cli.folder / "adapter" / "README.md").write_text("# goes\n")
    cli("push", "./adapter", "team/goes")
    cli("delete", "team/goes", "-y")
    assert cli.json("admin", "gc", "--dry-run")["blobs"] == []
    told = cli.json("admin", "gc", "--dry-run", "--grace-hours", "0")
    assert len(told["blobs"]) == 1
    assert "Nobody can be asked" in cli("admin", "gc", "--grace-hours", "0", code=2).err
    done = cli("admin", "gc", "--grace-hours", "0", "-y")
    assert "removed 1 blobs" in done.out
    cli("pull", "team/kept", "--to", "back")
    assert cli.json("verify", "--all")["ok"]


def test_a_lost_database_comes_back(cli: CommandLine, data_dir: Path) -> None:
    digest = cli.json("push", "./adapter", "team/kept", "--tag", "v1")["digest"]
    before = cli.json("admin", "stats")
    refused = cli("admin", "rebuild", code=1)
    assert "empty" in refused.err
    fresh = data_dir.parent / "fresh"
    fresh.mkdir()
    shutil.copytree(data_dir / "store", fresh / "store")
    told = cli.json("admin", "rebuild", "--data-dir", fresh)
    assert (told["adapters"], told["revisions"], told["damaged"]) == (1, 1, [])
    assert cli.json("admin", "stats", "--data-dir", fresh) == before
    with own_hub(fresh) as url:
        assert cli.json("show", "team/kept:v1", "--endpoint", url)["digest"] == digest


def test_migrating_twice_changes_nothing(cli: CommandLine) -> None:
    assert cli.json("admin", "migrate") == {"migrated": True}
    assert "layout" in cli("admin", "migrate").err
    assert "adapters" in cli("admin", "stats").out


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", "serve", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_exposed_hub_without_tokens_does_not_start(tmp_path: Path) -> None:
    done = serve("--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2].startswith("error: ")
    assert "token" in done.stderr.splitlines()[-1]


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    done = serve("--data-dir", str(tmp_path), ADAPTERS_MAX_FILES_PER_REVISION="none")
    assert done.returncode == 2
    assert "ADAPTERS_MAX_FILES_PER_REVISION" in done.stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = serve("--port", port, "--data-dir", str(tmp_path))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_hub_says_where_it_is_and_stops_when_told(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", "serve", "--port", "0", "--data-dir", tmp_path],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = next(line for line in process.stderr if line.startswith("hub at http://127.0.0.1:"))
    assert "Ctrl-C" in told
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in {0, 130, -signal.SIGINT}


def test_a_hub_that_cannot_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "registry.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(TourError, match="did not start") as caught, own_hub(tmp_path / "hub"):
        pass
    assert "hub.log" in caught.value.hint


@pytest.mark.slow
def test_the_tour(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "tour", "--in", tmp_path / "tour", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["checks"]) == 6
    assert [row["what"].partition(" ")[0] for row in told["rows"]][:3] == [
        "team/sst2",
        "team/mr-rt-polarity",
        "team/sst2-small",
    ]
    assert told["rows"][2]["error"] < 0.7


def test_a_tour_touches_nobody_elses_folder(cli: CommandLine) -> None:
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "file").write_text("mine")
    assert "no tour made it" in cli("tour", "--in", "mine", code=1).err
    assert (cli.folder / "mine" / "file").read_text() == "mine"
