"""Give every command the same options: JSON, endpoint, token, colour, traces."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from api.client import HubClient
    from api.remote.credentials import Access
    from api.remote.progress import Progress
    from api.settings import ClientSettings

P = ParamSpec("P")
R = TypeVar("R")
_STDIN = "-"


@dataclass(slots=True)
class Session:
    """Hold what the common options said.

    Attributes:
        as_json: print JSON instead of text.
        endpoint: the hub that a flag names, or None.
        token_file: file that holds a token, `-` for stdin, or None.
    """

    as_json: bool
    endpoint: str | None
    token_file: str | None
    _access: Access | None = None

    def settings(self) -> ClientSettings:
        """Return what the environment says."""
        from api.settings import ClientSettings

        return ClientSettings()

    def access(self) -> Access:
        """Return which hub is meant and what opens it; a token on stdin is read once."""
        from api.remote.credentials import check_token, choose_access

        if self._access is None:
            token = None
            if self.token_file is not None:
                from_stdin = self.token_file == _STDIN
                text = sys.stdin.read() if from_stdin else Path(self.token_file).read_text()
                token = check_token(text)
            self._access = choose_access(self.settings(), endpoint=self.endpoint, token=token)
        return self._access

    def client(self) -> HubClient:
        """Return a client of the hub that is meant."""
        from api.client import HubClient

        return HubClient(self.access(), timeout_s=self.settings().timeout_s)

    def progress(self) -> Progress:
        """Return what shows progress: bars on a terminal, nothing elsewhere."""
        from api.remote.progress import SILENT

        if not sys.stderr.isatty():
            return SILENT
        from api.cli.progress import Bars

        return Bars()


def command(
    name: str | None = None, *, example: str
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command whose help ends with an example."""
    return click.command(name, epilog=f"\b\nExample:\n  {example}")


def common(action: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Add the common options to a command, which takes a session first."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
    @click.option("--endpoint", metavar="URL", help="The hub; else ADAPTERS_ENDPOINT or the login.")
    @click.option(
        "--token-file", metavar="FILE", help="Read the token from a file, or from stdin with '-'."
    )
    @click.option("--no-color", is_flag=True, help="Print no colours (as NO_COLOR does).")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(action)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        context = click.get_current_context()
        if kwargs.pop("no_color") or no_color():
            context.color = False
        kwargs.pop("debug")
        session = Session(
            as_json=bool(kwargs.pop("as_json")),
            endpoint=_text(kwargs.pop("endpoint")),
            token_file=_text(kwargs.pop("token_file")),
        )
        return action(session, *args, **kwargs)

    return wrapper


def device_option(action: Callable[P, R]) -> Callable[P, R]:
    """Add the choice of who does the heavy arithmetic to a command, which takes it as `device`."""
    return click.option(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help="Who does the arithmetic: cpu (the default), cuda or cuda:N. The result is the same.",
    )(action)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        UsageError: nobody can be asked, and `--yes` is not given.
        Exit: the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{question} Nobody can be asked here: add --yes if it is meant.")
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(1)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def no_color() -> bool:
    """Return whether output should be plain: by the person's wish, or because nobody looks."""
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        return True
    from api.settings import no_color as wished

    return wished()
