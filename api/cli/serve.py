"""Run a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common

if TYPE_CHECKING:
    from api.settings import HubSettings


@command(example="adapters serve --port 8321 --data-dir ./hub")
@click.option("--host", help="Address to listen on; else ADAPTERS_HOST or 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database and blobs.")
@common
def serve(session: Session, *, host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run a hub.

    On loopback it needs no token and no other service. With --json the address is printed as one
    line of JSON as soon as the hub answers.
    """
    from api.server import serve as run

    given = {"host": host, "port": port, "data_dir": data_dir}
    settings = hub_settings(**{key: value for key, value in given.items() if value is not None})

    def ready(url: str) -> None:
        if session.as_json:
            output.line(json.dumps({"url": url, "data_dir": str(settings.data_dir)}))
        else:
            output.message(f"hub at {url}, data in {settings.data_dir}; Ctrl-C stops it")

    run(settings, ready=ready)


def hub_settings(**given: str | int | Path) -> HubSettings:
    """Return a hub's settings; a bad one is a usage error that names it."""
    from pydantic import ValidationError

    from api.settings import HubSettings

    try:
        return HubSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise click.UsageError(f"setting ADAPTERS_{name}: {first['msg']}") from error
