"""Log in to a hub that asks for tokens, and meet every way of not being allowed."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import CommandLine, command_line
from tests.hub_pushes import small_adapter
from tests.live_hub import LiveHub, start_hub

ADMIN = "the-first-administrator"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    with start_hub(tmp_path_factory.mktemp("hub"), auth="token", admin_token=ADMIN) as live:
        yield live


@pytest.fixture
def cli(
    guarded: LiveHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    with command_line(capsys, tmp_path, guarded.url) as line:
        yield line


@pytest.fixture
def folder(cli: CommandLine) -> Path:
    made = cli.folder / "adapter"
    made.mkdir()
    for name, data in small_adapter(31).items():
        (made / name).write_bytes(data)
    return made


def make_token(cli: CommandLine, endpoint: str, namespace: str, role: str) -> str:
    (cli.folder / "admin").write_text(ADMIN)
    told = cli.json(
        *("admin", "token", "create", "--namespace", namespace, "--role", role),
        *("--endpoint", endpoint, "--token-file", "admin"),
    )
    return str(told["secret"])


def log_in(cli: CommandLine, token: str, *, code: int = 0) -> str:
    cli.patch.setattr("sys.stdin", io.StringIO(token + "\n"))
    return cli("login", code=code).err


def test_without_a_token_nothing_is_allowed(cli: CommandLine, folder: Path) -> None:
    for arguments in (("list",), ("push", folder, "team/x"), ("show", "team/x"), ("whoami",)):
        ran = cli(*arguments, code=4)
        assert "token" in ran.err
        assert "hint:" in ran.err
    told = json.loads(cli("list", "--json", code=4).err)["error"]
    assert told["exit_code"] == 4


def test_login_tries_the_token_and_keeps_it(
    cli: CommandLine, guarded: LiveHub, folder: Path
) -> None:
    token = make_token(cli, guarded.url, "team", "write")
    told = log_in(cli, token)
    assert guarded.url in told
    assert token not in told
    file = cli.folder.parent / "config" / "adapters" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cli.json("whoami")["grants"] == {"team": "write"}
    assert cli.json("whoami")["token_source"] == "login"
    cli("push", folder, "team/first")
    cli.patch.delenv("ADAPTERS_ENDPOINT")  # the last login says which hub is meant
    assert cli("list", "-q").out == "team/first\n"
    assert "forgot" in cli("logout", "--endpoint", guarded.url).err
    cli("list", "--endpoint", guarded.url, code=4)
    assert not cli.json("logout", "--endpoint", guarded.url)["forgotten"]


def test_a_wrong_token_is_not_kept(cli: CommandLine) -> None:
    assert "refused" in log_in(cli, "tern_wrong", code=4) or "token" in log_in(
        cli, "tern_wrong", code=4
    )
    assert not (cli.folder.parent / "config" / "adapters" / "credentials.json").exists()
    assert "not a token" in log_in(cli, "", code=1)


def test_a_token_comes_from_the_environment_or_a_file(cli: CommandLine, guarded: LiveHub) -> None:
    token = make_token(cli, guarded.url, "team", "read")
    (cli.folder / "token").write_text(token + "\n")
    assert cli.json("whoami", "--token-file", "token")["token_source"] == "flag"
    cli.patch.setattr("sys.stdin", io.StringIO(token))
    assert cli.json("whoami", "--token-file", "-")["grants"] == {"team": "read"}
    cli.patch.setenv("ADAPTERS_TOKEN", token)
    assert cli.json("whoami")["token_source"] == "ADAPTERS_TOKEN"
    assert cli("whoami", "--token-file", "absent", code=1).err


def test_reading_is_not_writing(cli: CommandLine, guarded: LiveHub, folder: Path) -> None:
    cli.patch.setenv("ADAPTERS_TOKEN", make_token(cli, guarded.url, "team", "write"))
    cli("push", folder, "team/readable")
    cli.patch.setenv("ADAPTERS_TOKEN", make_token(cli, guarded.url, "team", "read"))
    cli("pull", "team/readable", "--to", "back")
    for arguments in (
        ("push", folder, "team/readable"),
        ("tag", "team/readable", "v1"),
        ("delete", "team/readable", "-y"),
        ("admin", "stats", "--endpoint", guarded.url),
        ("admin", "gc", "--dry-run", "--endpoint", guarded.url),
    ):
        assert "right" in cli(*arguments, code=4).err


def test_another_namespace_is_not_there(cli: CommandLine, guarded: LiveHub, folder: Path) -> None:
    cli.patch.setenv("ADAPTERS_TOKEN", make_token(cli, guarded.url, "team", "write"))
    cli("push", folder, "team/hidden")
    cli.patch.setenv("ADAPTERS_TOKEN", make_token(cli, guarded.url, "other", "write"))
    hidden = cli("show", "team/hidden", code=1).err
    absent = cli("show", "team/absent", code=1).err
    assert hidden.replace("hidden", "absent") == absent
    assert cli.json("list", "--namespace", "team") == []


def test_tokens_from_afar(cli: CommandLine, guarded: LiveHub) -> None:
    cli.patch.setenv("ADAPTERS_TOKEN", ADMIN)
    secret = make_token(cli, guarded.url, "far", "admin")
    there = ("--endpoint", guarded.url)
    found = [t for t in cli.json("admin", "token", "list", *there) if t["namespace"] == "far"]
    assert len(found) == 1
    assert "secret" not in found[0]
    assert found[0]["id"] in cli("admin", "token", "list", *there).out
    assert secret not in cli("admin", "token", "list", *there).out
    cli("admin", "token", "revoke", found[0]["id"], *there, code=2)
    cli("admin", "token", "revoke", found[0]["id"], "--yes", *there)
    cli.patch.setenv("ADAPTERS_TOKEN", secret)
    cli("whoami", code=4)


def test_figures_from_afar(cli: CommandLine, guarded: LiveHub) -> None:
    cli.patch.setenv("ADAPTERS_TOKEN", ADMIN)
    there = ("--endpoint", guarded.url)
    told = cli.json("admin", "stats", *there)
    assert {"adapters", "revisions", "base_models", "blobs", "size_bytes", "namespaces"} == set(
        told
    )
    assert cli.json("admin", "gc", "--dry-run", *there)["dry_run"]
    cli("admin", "rebuild", *there, code=2)
    cli("admin", "migrate", *there, code=2)
