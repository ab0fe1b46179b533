"""List the commands and where each stands, without importing any of them."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click


class Entry(NamedTuple):
    """Say where a command stands and what it does, in one line.

    Attributes:
        place: module and object.
        summary: the first line of its help; a test keeps both equal.
        section: where `adapters --help` lists it.
    """

    place: str
    summary: str
    section: str


_USE, _LOOK, _SHRINK, _RUN = "Push and pull", "Look", "Compress and merge", "Run and administer"

COMMANDS: dict[str, Entry] = {
    "push": Entry("api.cli.push:push", "Send a folder to the hub as a new revision.", _USE),
    "pull": Entry("api.cli.pull:pull", "Fetch a revision into a folder.", _USE),
    "tag": Entry("api.cli.refs:tag", "Give a revision a name that stays.", _USE),
    "delete": Entry("api.cli.refs:delete", "Remove an adapter, a branch or a tag.", _USE),
    "list": Entry("api.cli.browse:list_adapters", "List adapters.", _LOOK),
    "show": Entry("api.cli.show:show", "Show one revision: files, base, lineage, warnings.", _LOOK),
    "log": Entry("api.cli.browse:log", "List the revisions of a branch, newest first.", _LOOK),
    "diff": Entry("api.cli.diff:diff", "Compare two adapters: files, config, weights.", _LOOK),
    "lineage": Entry("api.cli.lineage:lineage", "Show what a revision was made from.", _LOOK),
    "verify": Entry("api.cli.verify:verify", "Read every byte and check its digest.", _LOOK),
    "similar": Entry(
        "api.cli.similar:similar", "Find experts that are alike, compressed or not.", _LOOK
    ),
    "inspect": Entry("api.cli.inspect:inspect", "Look into the weights, module by module.", _LOOK),
    "evaluate": Entry(
        "api.cli.evaluate:evaluate", "Judge an adapter on rows: accuracy and loss.", _LOOK
    ),
    "compress": Entry("api.cli.compress:compress", "Shrink an adapter to a .tern.", _SHRINK),
    "decompress": Entry("api.cli.decompress:decompress", "Turn a .tern into a folder.", _SHRINK),
    "calibrate": Entry(
        "api.cli.calibrate:calibrate", "Measure what enters an adapter's modules.", _SHRINK
    ),
    "merge": Entry("api.cli.merge:merge", "Combine adapters into one.", _SHRINK),
    "serve": Entry("api.cli.serve:serve", "Run a hub.", _RUN),
    "jobs": Entry("api.cli.jobs:jobs", "Ask for long work, watch it, cancel it.", _RUN),
    "worker": Entry(
        "api.cli.worker:worker", "Run jobs of a hub, on this machine or on a Ray cluster.", _RUN
    ),
    "login": Entry("api.cli.login:login", "Store a token for a hub.", _RUN),
    "logout": Entry("api.cli.login:logout", "Forget the token of a hub.", _RUN),
    "whoami": Entry("api.cli.login:whoami", "Show the hub, who you are and what you may.", _RUN),
    "admin": Entry("api.cli.admin:admin", "Administer a hub: tokens, garbage, rebuild.", _RUN),
    "tour": Entry("api.cli.tour:tour", "Run the main job once, on a hub of its own.", _RUN),
    "completion": Entry("api.cli.completion:completion", "Print a completion script.", _RUN),
}


class LazyGroup(click.Group):
    """Import a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None if there is none of that name."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.place} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, from the list alone."""
        del ctx
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name, e.summary) for name, e in COMMANDS.items() if e.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or say which one may be.

        Raises:
            UsageError: there is none of that name.
        """
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {name!r}.{hint}")
        return super().resolve_command(ctx, args)
