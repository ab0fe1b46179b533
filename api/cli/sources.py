"""Tell local paths from names on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.errors import ValidationError
from registry.refs import AdapterName, Reference

if TYPE_CHECKING:
    from api.cli.session import Session
    from api.client import HubClient


def local_path(text: str) -> Path | None:
    """Return the path that a text names, or None if it is a name on the hub."""
    if text.startswith(("./", "../", "/", "~")) or text in {".", ".."}:
        return Path(text).expanduser()
    path = Path(text)
    return path if path.exists() or path.suffix in {".tern", ".safetensors"} else None


class ReferenceType(click.ParamType[Reference]):
    """Read `namespace/name[:ref][@digest]`."""

    name = "ref"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Reference:
        """Return the reference; a malformed one is a usage error."""
        if isinstance(value, Reference):
            return value
        try:
            return Reference.parse(str(value))
        except ValidationError as error:
            self.fail(f"{error.message}: expected {error.expected}", param, ctx)


class AdapterNameType(click.ParamType[AdapterName]):
    """Read `namespace/name`."""

    name = "name"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> AdapterName:
        """Return the name; a malformed one is a usage error."""
        if isinstance(value, AdapterName):
            return value
        try:
            return AdapterName.parse(str(value))
        except ValidationError as error:
            self.fail(f"{error.message}: expected {error.expected}", param, ctx)


REFERENCE = ReferenceType()
ADAPTER = AdapterNameType()


def parse_reference(text: str) -> Reference:
    """Return the reference that a text is; a malformed one is a usage error."""
    try:
        return Reference.parse(text)
    except ValidationError as error:
        raise click.UsageError(
            f"{text!r} is neither a path that exists nor a reference: {error.message}"
        ) from error


@contextmanager
def as_folder(session: Session, text: str, *, raw: bool = True) -> Iterator[Path]:
    """Give the local path of a source; one on the hub is fetched into a temporary folder.

    Args:
        session: the common options.
        text: a path or a reference.
        raw: keep a `.tern` as it is instead of decoding it.
    """
    path = local_path(text)
    if path is not None:
        yield existing(path)
        return
    reference = parse_reference(text)
    with session.client() as client, fetched(session, client, reference, raw=raw) as folder:
        yield folder


@contextmanager
def fetched(
    session: Session, client: HubClient, reference: Reference, *, raw: bool = True
) -> Iterator[Path]:
    """Give a temporary folder that holds a revision."""
    import tempfile

    from api.workflows.pull import PullOptions, WantedEncoding, fetch_all, pull

    cache_dir = session.settings().cache_dir
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        folder = Path(name) / reference.adapter.name
        if raw:
            revision = client.resolve(reference)
            fetch_all(client, revision, folder, cache_dir=cache_dir, progress=session.progress())
        else:
            options = PullOptions(cache_dir=cache_dir, encoding=WantedEncoding.PEFT)
            pull(client, reference, folder, options=options, progress=session.progress())
        yield folder


def existing(path: Path) -> Path:
    """Return a path that must be there.

    Raises:
        SourceNotFoundError: it is not.
    """
    from api.remote.errors import SourceNotFoundError

    if not path.exists():
        raise SourceNotFoundError(path)
    return path
