"""Read every byte and check it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from api.cli import output
from api.cli.job_option import job_option, on_the_hub, refuse_with_job, submit_job
from api.cli.session import Session, command, common
from api.cli.sources import local_path, parse_reference


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether one file is what its digest names.

    Attributes:
        adapter: the revision or folder that it belongs to.
        path: its name there.
        digest: what it should hold; what it holds, for a local file.
        ok: whether it does.
        detail: what is wrong.
    """

    adapter: str
    path: str
    digest: str
    ok: bool
    detail: str = ""


@command(example="adapters verify team/sql-expert")
@click.argument("source", metavar="[REF|FOLDER]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every adapter that you may read.")
@click.option("--against", metavar="REF", help="Compare a local folder with this revision.")
@job_option
@common
def verify(
    session: Session,
    *,
    source: str | None,
    everything: bool,
    against: str | None,
    as_job: bool,
) -> None:
    """Read every byte and check its digest.

    The hub reads what it stores. A local folder is checked as a push would check it, without a hub;
    a .tern in it is decoded.
    """
    if everything == (source is not None):
        raise click.UsageError("name a revision or a folder, or add --all")
    if as_job:
        refuse_with_job(against=against)
        submit_job(session, "verify", {"source": on_the_hub(source) if source else None})
        return
    path = local_path(source) if source is not None else None
    if against is not None and path is None:
        raise click.UsageError("--against goes with a local folder")
    if path is not None:
        verdicts = _local(session, path, against)
    elif source is not None:
        verdicts = _revision(session, source)
    else:
        verdicts = _everything(session)
    _tell(session, verdicts)


def _local(session: Session, path: Path, against: str | None) -> list[Verdict]:
    from api.workflows.push import check_folder

    checked = check_folder(path, progress=session.progress())
    if checked.summary.encoding == "tern":
        from compress import inspect

        inspect(path)  # decodes every stream, and raises at the first that is damaged
    for finding in checked.warnings:
        output.warning(finding.message)
    found = {file.name: str(file.digest) for file in checked.files}
    if against is None:
        return [Verdict(str(path), name, digest, ok=True) for name, digest in found.items()]
    with session.client() as client:
        revision = client.resolve(parse_reference(against))
    wanted = {file.path: file.digest for file in revision.manifest.files}
    return [
        Verdict(
            str(path), name, wanted.get(name, found.get(name, "")), ok=not detail, detail=detail
        )
        for name in sorted(wanted.keys() | found.keys())
        for detail in [_detail(wanted.get(name), found.get(name))]
    ]


def _against(where: str, name: str, wanted: str | None, found: str | None) -> Verdict:
    detail = _detail(wanted, found)
    return Verdict(where, name, wanted or found or "", ok=not detail, detail=detail)


def _detail(wanted: str | None, found: str | None) -> str:
    if wanted == found:
        return ""
    if wanted is None:
        return "the revision has no such file"
    return "missing" if found is None else f"holds {found}"


def _revision(session: Session, text: str) -> list[Verdict]:
    reference = parse_reference(text)
    with session.client() as client:
        body = client.verify(reference)
    return [Verdict(text, f.path, f.digest, ok=f.ok, detail=f.detail) for f in body.files]


def _everything(session: Session) -> list[Verdict]:
    from registry.refs import Reference

    verdicts = []
    with session.client() as client:
        for adapter in client.adapters():
            for digest in sorted({ref.digest for ref in (*adapter.branches, *adapter.tags)}):
                name = f"{adapter.name}@{digest}"
                files = client.verify(Reference.parse(name)).files
                verdicts += [Verdict(name, f.path, f.digest, f.ok, f.detail) for f in files]
    return verdicts


def _tell(session: Session, verdicts: Sequence[Verdict]) -> None:
    bad = [verdict for verdict in verdicts if not verdict.ok]
    if session.as_json:
        output.as_json({"ok": not bad, "files": [asdict(verdict) for verdict in verdicts]})
    else:
        for verdict in verdicts:
            mark = "ok     " if verdict.ok else "DAMAGED"
            detail = f"  {verdict.detail}" if verdict.detail else ""
            output.line(f"{mark} {verdict.adapter} {verdict.path}{detail}")
        output.message(f"{len(verdicts)} files read, {len(bad)} not as they should be")
    if bad:
        raise click.exceptions.Exit(1)
