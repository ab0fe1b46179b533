"""Administer a hub: on the spot, through its database, or from afar with `--endpoint`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.job_option import job_option, refuse_with_job, submit_job
from api.cli.output import Column
from api.cli.session import Session, command, common, confirm

if TYPE_CHECKING:
    from api.schemas_admin import TokenBody
    from registry.service import Registry

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="The hub's folder; else ADAPTERS_DATA_DIR."
)


@click.group(epilog="\b\nExample:\n  adapters admin stats")
def admin() -> None:
    """Administer a hub: tokens, garbage, rebuild.

    Works on the database that the ADAPTERS_ settings name, whether or not the hub runs; with
    --endpoint it asks that hub instead.
    """


@admin.group(epilog="\b\nExample:\n  adapters admin token list")
def token() -> None:
    """Make, list and revoke tokens."""


@contextmanager
def own_registry(data_dir: Path | None) -> Iterator[Registry]:
    """Open the registry that the settings name, and close it."""
    from api.cli.serve import hub_settings
    from api.registry_settings import registry_settings
    from registry.service import open_registry

    settings = hub_settings(**({"data_dir": data_dir} if data_dir else {}))
    registry = open_registry(registry_settings(settings))
    try:
        yield registry
    finally:
        registry.close()


@token.command("create", epilog="\b\nExample:\n  adapters admin token create --namespace team")
@click.option("--namespace", required=True, help="Where it holds; '*' for everywhere.")
@click.option(
    "--role", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True
)
@click.option("--label", default="", help="What people call it.")
@click.option("--expires-at", metavar="TIME", help="When it ends, as 2027-01-31T00:00:00.000Z.")
@DATA_DIR
@common
def create(
    session: Session,
    *,
    namespace: str,
    role: str,
    label: str,
    expires_at: str | None,
    data_dir: Path | None,
) -> None:
    """Make a token and show it, this once."""
    from api.remote.admin import HubAdmin
    from api.schemas_admin import NewTokenBody
    from api.schemas_requests import TokenIn

    label = label or f"{role} {namespace}"
    if session.endpoint:
        with session.client() as client:
            asked = TokenIn(namespace=namespace, role=role, label=label, expires_at=expires_at)
            made = HubAdmin(client).create_token(asked)
    else:
        from registry.tokens import Role

        with own_registry(data_dir) as registry:
            record, secret = registry.tokens.create(
                namespace, Role(role), label=label, expires_at=expires_at, principal="local"
            )
        made = NewTokenBody(**asdict(record), secret=secret)
    if session.as_json:
        output.as_json(made.model_dump(mode="json"))
        return
    output.message(f"token {made.id}: {made.role} in {made.namespace}; it is not shown again")
    output.line(made.secret)


@token.command("list", epilog="\b\nExample:\n  adapters admin token list --json")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@DATA_DIR
@common
def list_tokens(session: Session, *, quiet: bool, data_dir: Path | None) -> None:
    """List tokens, never their secrets."""
    from api.remote.admin import HubAdmin
    from api.schemas_admin import TokenBody

    if session.endpoint:
        with session.client() as client:
            tokens = HubAdmin(client).tokens().items
    else:
        with own_registry(data_dir) as registry:
            tokens = [TokenBody(**asdict(record)) for record in registry.tokens.list()]
    if session.as_json:
        output.as_json([item.model_dump(mode="json") for item in tokens])
    elif quiet:
        for item in tokens:
            output.line(item.id)
    else:
        titles = ("id", "namespace", "role", "label", "created", "last used", "state")
        output.table([Column(title) for title in titles], [_token_row(item) for item in tokens])


@token.command("revoke", epilog="\b\nExample:\n  adapters admin token revoke 1f3a90c2 --yes")
@click.argument("token_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@DATA_DIR
@common
def revoke(session: Session, *, token_id: str, yes: bool, data_dir: Path | None) -> None:
    """Revoke a token for good."""
    from api.remote.admin import HubAdmin

    confirm(f"Revoke token {token_id} for good?", yes=yes)
    if session.endpoint:
        with session.client() as client:
            HubAdmin(client).revoke_token(token_id)
    else:
        with own_registry(data_dir) as registry:
            registry.tokens.revoke(token_id, principal="local")
    if session.as_json:
        output.as_json({"id": token_id, "revoked": True})
    else:
        output.message(f"revoked {token_id}")


def _token_row(item: TokenBody) -> tuple[str, ...]:
    state = "revoked" if item.revoked_at else "holds"
    if item.expires_at and not item.revoked_at:
        state = f"until {output.when(item.expires_at)}"
    return (
        item.id,
        item.namespace,
        item.role,
        item.label,
        output.when(item.created_at),
        output.when(item.last_used_at or "never"),
        state,
    )


@command("gc", example="adapters admin gc --dry-run")
@click.option("--grace-hours", type=click.FloatRange(min=0), default=24.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@DATA_DIR
@job_option
@common
def collect(
    session: Session,
    *,
    grace_hours: float,
    dry_run: bool,
    yes: bool,
    data_dir: Path | None,
    as_job: bool,
) -> None:
    """Remove what no branch or tag reaches any more.

    With --job the hub does it, as with --endpoint.
    """
    from api.remote.admin import HubAdmin
    from api.schemas_admin import CollectedBody

    if not dry_run:
        confirm("Remove for good what no branch or tag reaches?", yes=yes)
    if as_job:
        refuse_with_job(data_dir=data_dir)
        submit_job(session, "gc", {"grace_s": grace_hours * 3600, "dry_run": dry_run})
        return
    if session.endpoint:
        with session.client() as client:
            found = HubAdmin(client).collect(grace_s=grace_hours * 3600, dry_run=dry_run)
    else:
        with own_registry(data_dir) as registry:
            report = registry.collector.collect(
                grace_hours * 3600, dry_run=dry_run, principal="local"
            )
        lists = {name: [str(d) for d in getattr(report, name)] for name in ("blobs", "manifests")}
        found = CollectedBody(**{**asdict(report), **lists})
    if session.as_json:
        output.as_json(found.model_dump(mode="json"))
        return
    did = "would remove" if found.dry_run else "removed"
    output.line(
        f"{did} {len(found.blobs)} blobs and {len(found.manifests)} manifests, "
        f"{output.size(found.size_bytes)}; {found.uploads} unfinished uploads"
    )


@command("rebuild", example="adapters admin rebuild --data-dir ./hub")
@DATA_DIR
@common
def rebuild(session: Session, *, data_dir: Path | None) -> None:
    """Restore a lost database from the blob store alone."""
    if session.endpoint:
        raise click.UsageError("a rebuild works on the spot, not through a hub")
    with own_registry(data_dir) as registry:
        report = registry.rebuilder.rebuild()
    for damage in report.damaged:
        output.warning(f"{damage.key}: {damage.detail}")
    output.message(report.note)
    if session.as_json:
        output.as_json(asdict(report))
        return
    output.line(
        f"restored {report.adapters} adapters, {report.revisions} revisions, "
        f"{report.base_models} base models, {report.blobs} blobs; {len(report.damaged)} damaged"
    )


@command("migrate", example="adapters admin migrate")
@DATA_DIR
@common
def migrate(session: Session, *, data_dir: Path | None) -> None:
    """Bring the database to this version's layout (a hub does so when it starts)."""
    if session.endpoint:
        raise click.UsageError("a migration works on the spot, not through a hub")
    with own_registry(data_dir):
        pass
    if session.as_json:
        output.as_json({"migrated": True})
    else:
        output.message("the database has this version's layout")


@command("stats", example="adapters admin stats --json")
@DATA_DIR
@common
def stats(session: Session, *, data_dir: Path | None) -> None:
    """Count what the hub holds."""
    from api.remote.admin import HubAdmin
    from api.schemas import StatsBody

    if session.endpoint:
        with session.client() as client:
            found = HubAdmin(client).stats()
    else:
        with own_registry(data_dir) as registry:
            found = StatsBody(**asdict(registry.stats()))
    if session.as_json:
        output.as_json(found.model_dump(mode="json"))
        return
    counts = ("adapters", "revisions", "base_models", "blobs")
    rows = [(name.replace("_", " "), output.count(getattr(found, name))) for name in counts]
    rows.append(("size", output.size(found.size_bytes)))
    spaces = sorted(found.namespaces.items())
    output.fields(rows + [(f"  {namespace}", output.size(size)) for namespace, size in spaces])


for _command in (collect, rebuild, migrate, stats):
    admin.add_command(_command)
