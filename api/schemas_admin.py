"""Define what the API answers about base models, tokens and the hub as a whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas import Body
from registry.manifest_json import DigestText

Shape = Annotated[list[int], Field(min_length=2, max_length=2)]


class BaseModelBody(Body):
    """Show a base model; shapes are `[d_out, d_in]` by module, as far as they are known."""

    name: str
    key: str
    aliases: list[str]
    shapes: dict[str, Shape]
    configured: bool
    adapters: int
    created_at: str
    updated_at: str


class BaseModelsBody(Body):
    """Show every base model, without shapes."""

    items: list[BaseModelBody]


class TokenBody(Body):
    """Show a token; its secret is not kept."""

    id: str
    label: str
    namespace: str
    role: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None


class NewTokenBody(TokenBody):
    """Show a new token with its secret, this once."""

    secret: str


class TokensBody(Body):
    """Show tokens, newest first."""

    items: list[TokenBody]


class DamageBody(Body):
    """Name one stored file that is not what its digest names."""

    adapter: str
    revision: DigestText
    path: str
    digest: DigestText
    detail: str


class DamagesBody(Body):
    """Show what a check of the whole store found."""

    checked: int
    damaged: list[DamageBody]


class CollectedBody(Body):
    """Show what was removed, or with `dry_run` what would be."""

    dry_run: bool
    blobs: list[DigestText]
    manifests: list[DigestText]
    size_bytes: int
    records: int
    holdings: int
    uploads: int


class AuditEntryBody(Body):
    """Show one act that changed the hub."""

    time: str
    principal: str
    action: str
    subject: str
    digest: DigestText | None


class AuditPage(Body):
    """Show one page of what was done, newest first."""

    items: list[AuditEntryBody]
    next_cursor: str | None
