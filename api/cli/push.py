"""Push a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE
from registry.digest import Digest
from registry.errors import ValidationError

if TYPE_CHECKING:
    from api.workflows.push import PushedRevision
    from registry.refs import Reference


class DigestType(click.ParamType[Digest]):
    """Read `sha256:…`."""

    name = "digest"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Digest:
        """Return the digest; a malformed one is a usage error."""
        if isinstance(value, Digest):
            return value
        try:
            return Digest.parse(str(value))
        except ValidationError as error:
            self.fail(error.message, param, ctx)


@command(example='adapters push ./out team/sql-expert:main -m "lower learning rate" --tag v2')
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("reference", metavar="NAME[:BRANCH]", type=REFERENCE)
@click.option("--base", "base_model", metavar="NAME", help="The base model, if the config errs.")
@click.option("-m", "--message", default="", help="What changed.")
@click.option("--author", default="", help="Who made it.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Also give it this tag.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME=VALUE", help="A figure, as accuracy=0.91."
)
@click.option("--kind", metavar="KIND", help="What the files are, if they cannot say themselves.")
@click.option("--onto", type=DigestType(), help="Refuse unless the branch stands at this revision.")
@click.option("--allow-non-finite", is_flag=True, help="Accept NaN and infinity in the weights.")
@common
def push(
    session: Session,
    *,
    folder: Path,
    reference: Reference,
    base_model: str | None,
    message: str,
    author: str,
    tags: tuple[str, ...],
    metrics: tuple[str, ...],
    kind: str | None,
    onto: Digest | None,
    allow_non_finite: bool,
) -> None:
    """Send a folder to the hub as a new revision.

    The folder is checked here first: if it is refused, nothing was sent. Only what the hub lacks is
    sent, and an interrupted push goes on where it stopped when it is repeated.
    """
    from api.workflows.push import PushOptions
    from api.workflows.push import push as push_folder

    if reference.digest:
        raise click.UsageError("a push names a branch, not a digest: use --onto for the head")
    chosen = PushOptions(
        base_model=base_model,
        message=message,
        author=author,
        tags=tags,
        metrics=_metrics(metrics),
        kind=kind,
        onto=onto,
        allow_non_finite=allow_non_finite,
    )
    with session.client() as client:
        pushed = push_folder(
            client, folder.expanduser(), reference, options=chosen, progress=session.progress()
        )
    tell(session, pushed)


def tell(session: Session, pushed: PushedRevision) -> None:
    """Print what a push did."""
    for finding in pushed.warnings:
        output.warning(finding.message + (f" ({finding.hint})" if finding.hint else ""))
    manifest = pushed.revision.manifest
    if session.as_json:
        output.as_json(
            {
                "adapter": manifest.adapter,
                "digest": pushed.revision.digest,
                "commit_id": pushed.revision.commit_id,
                "created": pushed.created,
                "base_model": manifest.base_model,
                "kind": manifest.config.kind,
                "size_bytes": sum(file.size_bytes for file in manifest.files),
                "sent_bytes": pushed.sent_bytes,
                "reused_bytes": pushed.reused_bytes,
                "refs": [ref.name for ref in pushed.revision.refs],
                "warnings": [finding.message for finding in pushed.warnings],
            }
        )
        return
    what = "pushed" if pushed.created else "nothing new:"
    sent, reused = output.size(pushed.sent_bytes), output.size(pushed.reused_bytes)
    output.message(f"{what} {len(manifest.files)} files, {sent} sent, {reused} already there")
    output.line(f"{manifest.adapter}@{pushed.revision.digest}")


def _metrics(texts: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is not NAME=NUMBER", param_hint="--metric"
            ) from None
    return found
