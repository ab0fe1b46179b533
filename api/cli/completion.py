"""Print what makes a shell complete `adapters` commands."""

from __future__ import annotations

import click

from api.cli import output
from api.cli.session import Session, command, common


@command(example="adapters completion bash > ~/.local/share/bash-completion/completions/adapters")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(session: Session, *, shell: str) -> None:
    """Print a completion script."""
    from click.shell_completion import get_completion_class

    from api.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    script = found(cli, {}, "adapters", "_ADAPTERS_COMPLETE").source()
    if session.as_json:
        output.as_json({"shell": shell, "script": script})
    else:
        output.line(script)
