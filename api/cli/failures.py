"""Tell people what went wrong: one line what, one line what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import TracebackType

import click

from api import problems
from api.cli.session import no_color

_ROOTS = (
    ("registry.errors", "RegistryError"),
    ("compress.errors", "CompressError"),
    ("merge.errors", "MergeError"),
    ("api.errors", "ApiError"),
)


@dataclass(frozen=True, slots=True)
class Flags:
    """Hold what matters for reports, even of a command line that could not be parsed."""

    debug: bool
    as_json: bool
    plain: bool


def known() -> tuple[type[BaseException], ...]:
    """Return the errors that are meant for people: the roots of the rooms that were imported."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in _ROOTS]
    return (OSError, *(cls for cls in found if isinstance(cls, type)))


def report(error: BaseException, flags: Flags) -> int:
    """Print an error to stderr and return the exit code for it."""
    message, hint = _message(error), str(getattr(error, "hint", "") or "")
    code = getattr(error, "code", None) or problems.row_of(error).code
    exit_code = _exit_code(error)
    if isinstance(error, OSError):
        code = "os-error"
    if flags.as_json:
        value = {"code": code, "message": message, "hint": hint, "exit_code": exit_code}
        click.echo(json.dumps({"error": value}, ensure_ascii=False), err=True)
        return exit_code
    color = False if flags.plain or no_color() else None
    title = click.style("error: ", fg="red", bold=True)
    click.echo(title + _one_line(message), err=True, color=color)
    if hint:
        click.echo(click.style("  hint: ", fg="cyan") + _one_line(hint), err=True, color=color)
    return exit_code


def unexpected(
    kind: type[BaseException], error: BaseException, _trace: TracebackType | None
) -> None:
    """Be the interpreter's last word on an error that nobody foresaw."""
    click.echo(f"error: {kind.__name__}: {_one_line(str(error))}", err=True)
    click.echo(
        "  hint: this is a defect; run again with --debug and report what it shows", err=True
    )


def _message(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error))
    message = str(getattr(error, "message", "") or error)
    extra = getattr(error, "extra", None) or {}
    parts = []
    for name in ("file", "field"):
        value = getattr(error, name, "") or extra.get(name, "")
        if value and str(value) not in message:
            parts.append(f"{name} {value}")
    expected = getattr(error, "expected", "") or extra.get("expected", "")
    actual = getattr(error, "actual", "") or extra.get("actual", "")
    if expected and str(expected) not in message:
        parts.append(f"expected {expected}" + (f", got {actual}" if actual else ""))
    return message + (f" ({'; '.join(parts)})" if parts else "")


def _exit_code(error: BaseException) -> int:
    status = getattr(error, "status", None)
    if status is not None:
        return problems.EXIT_NOT_ALLOWED if status in {401, 403} else problems.EXIT_ERROR
    if isinstance(error, OSError):
        return problems.EXIT_ERROR
    return problems.row_of(error).exit_code


def _one_line(text: str) -> str:
    """Keep what came from elsewhere on one line and free of control characters."""
    return "".join(char if char.isprintable() else " " for char in text)
