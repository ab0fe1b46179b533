"""Store, forget and try tokens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common

if TYPE_CHECKING:
    from api.remote.credentials import Access


@command(example="adapters login --endpoint https://hub.example.org < token.txt")
@common
def login(session: Session) -> None:
    """Store a token for a hub.

    The token is asked for without showing it, or read from stdin; it is tried first, and kept in a
    file that only you can read.
    """
    from api.client import HubClient
    from api.remote.credentials import Access, CredentialsFile, check_token

    settings = session.settings()
    access = session.access()
    token = access.token if access.source == "flag" else check_token(_read_token(access))
    _warn_if_open(access.endpoint)
    with HubClient(Access(access.endpoint, token), timeout_s=settings.timeout_s) as client:
        caller = client.whoami()
    file = CredentialsFile(settings.config_dir)
    file.store(access.endpoint, token or "")
    if session.as_json:
        output.as_json({"endpoint": access.endpoint, **caller.model_dump(mode="json")})
    else:
        output.message(f"logged in to {access.endpoint} as {caller.label}; kept in {file.path}")


@command(example="adapters logout --endpoint https://hub.example.org")
@common
def logout(session: Session) -> None:
    """Forget the token of a hub."""
    from api.remote.credentials import CredentialsFile

    access = session.access()
    forgotten = CredentialsFile(session.settings().config_dir).forget(access.endpoint)
    if session.as_json:
        output.as_json({"endpoint": access.endpoint, "forgotten": forgotten})
    else:
        did = "forgot the token of" if forgotten else "no token is stored for"
        output.message(f"{did} {access.endpoint}")


@command(example="adapters whoami")
@common
def whoami(session: Session) -> None:
    """Show the hub, who you are and what you may."""
    access = session.access()
    with session.client() as client:
        caller = client.whoami()
    if session.as_json:
        output.as_json(
            {
                "endpoint": access.endpoint,
                "token_source": access.source,
                **caller.model_dump(mode="json"),
            }
        )
        return
    grants = ", ".join(f"{role} {name}" for name, role in sorted(caller.grants.items()))
    rows = [("hub", access.endpoint), ("you are", caller.label), ("you may", grants)]
    output.fields([*rows, ("token from", access.source)])


def _read_token(access: Access) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    text = click.prompt(f"Token for {access.endpoint}", hide_input=True, err=True)
    return str(text)


def _warn_if_open(endpoint: str) -> None:
    from urllib.parse import urlsplit

    from api.settings import is_loopback

    parts = urlsplit(endpoint)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        output.warning(f"{endpoint} is not encrypted: whoever sees the traffic can read the token")
