"""Walk the tree of commands: help, examples, options, and what each imports."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from api.cli.lazy import COMMANDS
from api.cli.main import cli, run

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "peft", "fastapi", "starlette", "sqlmodel", "sqlalchemy", "boto3"}
RICH_FREE = {"numpy", "httpx2", "rich", "pydantic", "pydantic_settings", "ml_dtypes", "uvicorn"}
COMMON = {"--json", "--endpoint", "--token-file", "--no-color", "--debug"}


def tree(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from tree(child, (*path, name))


def commands() -> list[tuple[str, click.Command]]:
    return list(tree(cli, ("adapters",)))


NAMES = [name for name, _ in commands()]
LEAVES = [name for name, command in commands() if not isinstance(command, click.Group)]


def named(name: str) -> click.Command:
    return dict(commands())[name]


def test_the_design_is_complete() -> None:
    wanted = [
        "serve",
        "login",
        "logout",
        "whoami",
        "push",
        "pull",
        "list",
        "show",
        "log",
        "tag",
        "diff",
        "lineage",
        "delete",
        "verify",
        "compress",
        "decompress",
        "inspect",
        "similar",
        "merge",
        "worker",
        "tour",
    ]
    jobs = ("list", "show", "watch", "logs", "cancel", "retry")
    admin = ("token create", "token list", "token revoke", "gc", "rebuild", "migrate", "stats")
    assert {f"adapters {name}" for name in wanted} <= set(NAMES)
    assert {f"adapters admin {name}" for name in admin} <= set(NAMES)
    assert {f"adapters jobs {name}" for name in jobs} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_one_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*name.split()[1:], "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    examples = re.findall(r"Example:\n +(adapters .*)", shown.out)
    assert len(examples) == 1, shown.out
    words = shlex.split(examples[0].partition(" < ")[0].partition(" > ")[0])
    if name != "adapters":
        assert words[: len(name.split())] == name.split()
    assert max(len(line) for line in shown.out.splitlines()) <= 100


@pytest.mark.parametrize("name", LEAVES)
def test_every_example_parses(name: str) -> None:
    text = (named(name).epilog or "").rpartition("\n")[2].strip()
    words = shlex.split(text.partition(" < ")[0].partition(" > ")[0])
    named(name).make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_takes_the_common_options(name: str) -> None:
    options = {option for parameter in named(name).params for option in parameter.opts}
    assert options >= COMMON


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_says_what_it_is_for(name: str) -> None:
    for parameter in named(name).params:
        if isinstance(parameter, click.Option) and not isinstance(parameter.type, click.Choice):
            assert parameter.help or parameter.show_default, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_list_of_commands_tells_the_truth(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == COMMANDS[name].summary


def imported(*arguments: str) -> set[str]:
    """Return the packages that a command line imports, in an interpreter of its own."""
    script = (
        "import sys\n"
        "from api.cli.main import run\n"
        f"code = run({list(arguments)!r})\n"
        "print('MODULES', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    return set(line.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["puhs"]])
def test_help_imports_next_to_nothing(arguments: list[str]) -> None:
    assert not imported(*arguments) & (HEAVY | RICH_FREE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["push", "examples/sst2", "team/x", "--endpoint", "http://127.0.0.1:9"],
        ["pull", "team/x", "--to", "/nonexistent/x", "--endpoint", "http://127.0.0.1:9"],
        ["list", "--endpoint", "http://127.0.0.1:9"],
        ["verify", "examples/sst2"],
        ["diff", "examples/sst2", "examples/mr-rt-polarity"],
        ["similar", "examples/sst2", "examples/mr-rt-polarity", "--clusters"],
    ],
)
def test_clients_import_neither_torch_nor_the_hub(arguments: list[str]) -> None:
    assert not imported(*arguments) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [["inspect", "examples/sst2"], ["diff", "examples/sst2", "examples/sst2", "--weights"]],
)
def test_local_commands_need_no_network_either(arguments: list[str]) -> None:
    assert not imported(*arguments) & (HEAVY | {"uvicorn"})


def test_a_typing_error_is_met_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["puhs"]) == 2
    assert "Did you mean 'push'?" in capsys.readouterr().err
    assert run(["zzz"]) == 2
    assert "There is no command 'zzz'." in capsys.readouterr().err


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Push and pull" in "".join(capsys.readouterr())
