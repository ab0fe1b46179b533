"""Be the `adapters` command: parse, run, report, exit.

Exit codes: 0 ok, 1 error, 2 usage, 4 not allowed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from api.cli import failures
from api.cli.lazy import LazyGroup

EXIT_INTERRUPTED = 130


_EPILOG = """\b
Example:
  adapters push ./out team/sql-expert --message "first try"

A path (./x, /x, ~/x, or one that exists) is local; namespace/name[:ref][@digest] is on the hub.
Every command has --help with an example, and --json for programs."""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(package_name="ternery", prog_name="adapters")
def cli() -> None:
    """Keep, compress, merge and ship fine-tuned adapters."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    flags = failures.Flags(
        debug="--debug" in arguments,
        as_json="--json" in arguments,
        plain="--no-color" in arguments,
    )
    if not flags.debug:
        sys.excepthook = failures.unexpected
    try:
        result = cli.main(args=list(arguments), prog_name="adapters", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; do not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except failures.known() as error:
        if flags.debug:
            raise
        return failures.report(error, flags)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
