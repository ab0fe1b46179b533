"""Show one revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session, command, common
from api.cli.sources import REFERENCE

if TYPE_CHECKING:
    from api.schemas import RevisionBody
    from registry.manifest_json import ConfigBody, EdgeBody
    from registry.refs import Reference


@command(example="adapters show team/sql-expert:v2")
@click.argument("reference", metavar="REF", type=REFERENCE)
@common
def show(session: Session, *, reference: Reference) -> None:
    """Show one revision: files, base, lineage, warnings."""
    with session.client() as client:
        revision = client.resolve(reference)
        refs = client.refs(reference.adapter)
    if session.as_json:
        value = revision.model_dump(mode="json")
        output.as_json({**value, "adapter_refs": refs.model_dump(mode="json")})
        return
    branches = [f"{r.name} → {output.short(r.digest)}" for r in refs.branches]
    tags = [f"{r.name} → {output.short(r.digest)}" for r in refs.tags]
    names = [("branches", ", ".join(branches)), ("tags", ", ".join(tags))]
    output.fields([*_rows(revision), *names])
    output.line("")
    files = revision.manifest.files
    columns = (Column("file"), Column("size", right=True), Column("sha256"))
    output.table(
        columns, [(f.path, output.size(f.size_bytes), output.short(f.digest)) for f in files]
    )
    output.line("")
    output.line(f"adapters pull {pull_reference(revision)}")
    for text in revision.manifest.warnings:
        output.warning(text)


def pull_reference(revision: RevisionBody) -> str:
    """Return how a revision is best named: by a tag, else by the digest, which never moves."""
    tags = [ref.name for ref in revision.refs if ref.kind == "tag"]
    adapter = revision.manifest.adapter
    return f"{adapter}:{tags[0]}" if tags else f"{adapter}@{revision.digest}"


def edge_text(edge: EdgeBody) -> str:
    """Describe an edge of lineage in one line."""
    weight = f" × {edge.weight:g}" if edge.weight is not None else ""
    options = ", ".join(f"{key} {value}" for key, value in sorted(edge.parameters.items()))
    source = f"{edge.adapter}@{output.short(edge.revision)}"
    return f"{edge.operation.value} {source}{weight}" + (f" ({options})" if options else "")


def _rows(revision: RevisionBody) -> list[tuple[str, str]]:
    manifest, config = revision.manifest, revision.manifest.config
    total = sum(file.size_bytes for file in manifest.files)
    rows = [
        ("adapter", manifest.adapter),
        ("revision", revision.digest),
        ("base model", manifest.base_model or "unknown"),
        ("kind", _kind(config)),
        ("parameters", output.count(config.parameters) if config.parameters else ""),
        ("size", f"{output.size(total)} in {len(manifest.files)} files"),
        *_compression(config, manifest.metrics),
        ("kept exactly", config.kept_exactly),
        ("message", manifest.message),
        ("author", manifest.author),
        ("created", f"{output.when(manifest.created_at)} UTC"),
        ("metrics", ", ".join(f"{k} {v:g}" for k, v in sorted(manifest.metrics.items()))),
    ]
    return rows + [("made by", edge_text(edge)) for edge in manifest.lineage]


def _compression(config: ConfigBody, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Say whether it can be compressed, or what compressing it came to."""
    if config.encoding != "tern":
        only_with = ", with --base" if config.kind == "full-model" else ""
        yes = f"yes{only_with}"
        return [("compresses", yes if config.compressible else "no: everything is kept exactly")]
    texts = {
        "ratio": "{:.1f}×",
        "bits_per_param": "{:.3f} bits per parameter",
        "error_delta": "error of ΔW {:.4f}",
        "layers": "{:.0f} layers",
        "error_vector": "error of other tensors {:.4f}",
    }
    told = [text.format(metrics[name]) for name, text in texts.items() if name in metrics]
    if not config.compressible:
        told = ["without loss", *told[:1]]
    return [("compressed", ", ".join(told) or "yes")]


def _kind(config: ConfigBody) -> str:
    parts = [config.kind, f"encoding {config.encoding}"]
    if config.rank is not None:
        parts.append(f"rank {config.rank}")
    if config.alpha is not None:
        parts.append(f"alpha {config.alpha:g}")
    return ", ".join(parts)
