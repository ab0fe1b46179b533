"""Define what the API answers about adapters; `answers.py` makes these of registry values."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from registry.manifest_json import DigestText, EdgeBody, ManifestBody
from registry.refs import RefKind


class Body(BaseModel):
    """Be the root of every answer."""

    model_config = ConfigDict(frozen=True)


class ProblemBody(Body):
    """Show an error (RFC 9457), as `application/problem+json`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="urn:ternery:problem: and the code")
    title: str
    status: int
    detail: str
    instance: str = Field(description="path of the request")
    code: str = Field(description="stable, for programs")
    hint: str = ""
    request_id: str = ""
    file: str | None = None
    field: str | None = None
    expected: str | None = None
    actual: str | None = None


class StatusBody(Body):
    """Say that the hub runs, or can serve."""

    status: str


class WhoamiBody(Body):
    """Show who the caller is and what that allows."""

    label: str
    grants: dict[str, str] = Field(description="namespace, or *, to read, write or admin")
    open: bool = Field(description="whether the hub needs no token")


class RefBody(Body):
    """Show a branch or tag."""

    kind: RefKind
    name: str
    digest: DigestText
    moved_at: str


class RefsBody(Body):
    """Show every branch and tag of an adapter."""

    branches: list[RefBody]
    tags: list[RefBody]


class AdapterBody(RefsBody):
    """Show an adapter."""

    name: str
    base_model: str | None
    kind: str
    created_at: str
    updated_at: str
    revisions: int
    size_bytes: int


class AdapterPage(Body):
    """Show one page of adapters."""

    items: list[AdapterBody]
    next_cursor: str | None


class RevisionBody(Body):
    """Show a revision."""

    digest: DigestText
    commit_id: str
    manifest: ManifestBody
    refs: list[RefBody]


class RevisionPage(Body):
    """Show one page of a branch's log, newest first."""

    items: list[RevisionBody]
    next_cursor: str | None


class MissingBlobBody(Body):
    """Name a blob that must be sent, from which byte on."""

    digest: DigestText
    offset: int


class MissingBody(Body):
    """Show which blobs of a push must be sent."""

    missing: list[MissingBlobBody]


class UploadBody(Body):
    """Say how much of a blob has arrived."""

    digest: DigestText
    offset: int
    stored: bool


class VerdictBody(Body):
    """Say whether one stored file is what its digest names."""

    path: str
    digest: DigestText
    ok: bool
    detail: str


class VerdictsBody(Body):
    """Show what was found in every file that was read."""

    files: list[VerdictBody]


class LineageEdgeBody(Body):
    """Show that `revision` of `adapter` was made from what `edge` names."""

    adapter: str
    revision: DigestText
    edge: EdgeBody
    distance: int


class LineageBody(Body):
    """Show what a revision was made from and what was made from it."""

    ancestors: list[LineageEdgeBody]
    descendants: list[LineageEdgeBody]
    truncated: bool


class StatsBody(Body):
    """Count what the hub holds."""

    adapters: int
    revisions: int
    base_models: int
    blobs: int
    size_bytes: int
    namespaces: dict[str, int]
