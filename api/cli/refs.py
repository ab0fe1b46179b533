"""Name revisions, and remove names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.session import Session, command, common, confirm
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from registry.refs import Reference


@command(example="adapters tag team/sql-expert:main v2")
@click.argument("reference", metavar="REF", type=REFERENCE)
@click.argument("name", metavar="TAG")
@common
def tag(session: Session, *, reference: Reference, name: str) -> None:
    """Give a revision a name that stays."""
    from registry.digest import Digest
    from registry.refs import Reference as Pinned

    with session.client() as client:
        revision = client.resolve(reference)
        pinned = Pinned(reference.adapter, digest=Digest.parse(revision.digest))
        client.tag(pinned, name)
    if session.as_json:
        output.as_json({"adapter": str(reference.adapter), "tag": name, "digest": revision.digest})
        return
    output.line(f"{reference.adapter}:{name}@{revision.digest}")


@command(example="adapters delete team/sql-expert --tag v1 --yes")
@click.argument("reference", metavar="NAME", type=REFERENCE)
@click.option("--branch", metavar="BRANCH", help="Remove this branch only.")
@click.option("--tag", "tag_name", metavar="TAG", help="Remove this tag only.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def delete(
    session: Session, *, reference: Reference, branch: str | None, tag_name: str | None, yes: bool
) -> None:
    """Remove an adapter, a branch or a tag.

    What no branch or tag reaches any more is removed by the next garbage collection.
    """
    if reference.ref or reference.digest or (branch and tag_name):
        raise click.UsageError("name the adapter, and one of --branch and --tag for less than all")
    adapter = reference.adapter
    what = f"tag {tag_name} of {adapter}" if tag_name else f"adapter {adapter}"
    what = f"branch {branch} of {adapter}" if branch else what
    confirm(f"Remove {what}?", yes=yes)
    with session.client() as client:
        if branch:
            client.delete_branch(adapter, branch)
        elif tag_name:
            client.delete_tag(adapter, tag_name)
        else:
            client.delete(adapter)
    if session.as_json:
        output.as_json({"adapter": str(adapter), "branch": branch, "tag": tag_name})
    else:
        output.message(f"removed {what}")
