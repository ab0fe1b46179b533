"""Turn manifests into canonical JSON and back, strictly.

Canonical means sorted keys, no spaces, UTF-8: equal manifests are equal bytes, and the sha256 of
those bytes is the revision's identity. The bodies here are also what the HTTP API shows.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as BodyError

from registry.digest import Digest
from registry.errors import ValidationError
from registry.manifest import ConfigSummary, FileEntry, LineageEdge, Manifest, Operation, Scalar
from registry.refs import AdapterName

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20
DigestText = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileBody(_Body):
    """Show one file of a revision."""

    path: str
    digest: DigestText
    size_bytes: int = Field(ge=0)
    media_type: str


class EdgeBody(_Body):
    """Show one edge of lineage."""

    operation: Operation
    adapter: str
    revision: DigestText
    weight: float | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)


class ConfigBody(_Body):
    """Show the summary of an adapter's configuration."""

    kind: str
    encoding: str
    base_model: str | None
    rank: int | None
    alpha: float | None
    target_modules: list[str]
    parameters: int = Field(ge=0)
    compressible: bool
    kept_exactly: str


class ManifestBody(_Body):
    """Show a whole manifest."""

    schema_version: Literal[1] = 1
    adapter: str
    base_model: str | None
    config: ConfigBody
    files: list[FileBody]
    lineage: list[EdgeBody]
    metrics: dict[str, float]
    message: str
    author: str
    created_at: str
    warnings: list[str]


def to_body(manifest: Manifest) -> ManifestBody:
    """Return the JSON-ready form of a manifest."""
    config = manifest.config
    return ManifestBody(
        adapter=str(manifest.adapter),
        base_model=manifest.base_model,
        config=ConfigBody(
            kind=config.kind,
            encoding=config.encoding,
            base_model=config.base_model,
            rank=config.rank,
            alpha=config.alpha,
            target_modules=list(config.target_modules),
            parameters=config.parameters,
            compressible=config.compressible,
            kept_exactly=config.kept_exactly,
        ),
        files=[
            FileBody(
                path=f.path, digest=str(f.digest), size_bytes=f.size_bytes, media_type=f.media_type
            )
            for f in sorted(manifest.files)
        ],
        lineage=[edge_body(edge) for edge in manifest.lineage],
        metrics=dict(manifest.metrics),
        message=manifest.message,
        author=manifest.author,
        created_at=manifest.created_at,
        warnings=list(manifest.warnings),
    )


def edge_body(edge: LineageEdge) -> EdgeBody:
    """Return the JSON-ready form of a lineage edge."""
    return EdgeBody(
        operation=edge.operation,
        adapter=str(edge.adapter),
        revision=str(edge.revision),
        weight=edge.weight,
        parameters=dict(edge.parameters),
    )


def edge_value(body: EdgeBody) -> LineageEdge:
    """Return the value of a lineage edge.

    Raises:
        ValidationError: its adapter or revision is not well formed.
    """
    return LineageEdge(
        body.operation,
        AdapterName.parse(body.adapter),
        Digest.parse(body.revision),
        body.weight,
        body.parameters,
    )


def from_body(body: ManifestBody) -> Manifest:
    """Return the manifest that a body shows.

    Raises:
        ValidationError: a name or digest in it is not well formed.
    """
    config = body.config.model_dump()
    config["target_modules"] = tuple(body.config.target_modules)
    return Manifest(
        adapter=AdapterName.parse(body.adapter),
        base_model=body.base_model,
        config=ConfigSummary(**config),
        files=tuple(
            FileEntry(f.path, Digest.parse(f.digest), f.size_bytes, f.media_type)
            for f in body.files
        ),
        lineage=tuple(edge_value(edge) for edge in body.lineage),
        metrics=body.metrics,
        message=body.message,
        author=body.author,
        created_at=body.created_at,
        warnings=tuple(body.warnings),
    )


def encode(manifest: Manifest) -> bytes:
    """Return the canonical JSON of a manifest."""
    value = to_body(manifest).model_dump(mode="json")
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def decode(data: bytes) -> Manifest:
    """Read a manifest back.

    Raises:
        ValidationError: it is not a manifest that this version understands.
    """
    try:
        return from_body(ManifestBody.model_validate_json(data))
    except BodyError as error:
        first = error.errors(include_url=False)[0]
        raise ValidationError(
            f"not a manifest: {first['msg']}",
            field=".".join(str(part) for part in first["loc"]),
            expected=f"manifest schema {SCHEMA_VERSION}",
            actual=str(first["input"])[:80],
        ) from error


def revision_id(manifest: Manifest) -> Digest:
    """Return the identity of a revision: the sha256 of its canonical JSON."""
    return Digest.of(encode(manifest))
