"""Define what the API accepts: every text bounded and free of control characters."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from registry.manifest_json import DigestText, EdgeBody

# Neither controls of either kind, which steer terminals, nor what turns the direction of writing.
_STEERING = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_PRINTABLE = rf"^[^\x00-\x1f{_STEERING}]*$"
_PROSE = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f{_STEERING}]*$"
PATTERN_PART = r"^[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,94}[A-Za-z0-9_])?$"
PATTERN_REF = r"^[A-Za-z0-9_](?:[A-Za-z0-9_.\/\-]{0,126}[A-Za-z0-9_\-])?$"
PATTERN_REVISION = (
    r"^(?:sha256:[0-9a-f]{64}|[A-Za-z0-9_](?:[A-Za-z0-9_.\/\-]{0,126}[A-Za-z0-9_\-])?)$"
)
PATTERN_DIGEST = r"^(?:sha256:)?[0-9a-f]{64}$"
PATTERN_TEXT = _PRINTABLE

Part = Annotated[str, StringConstraints(pattern=PATTERN_PART)]
Ref = Annotated[str, StringConstraints(pattern=PATTERN_REF)]
Line = Annotated[str, StringConstraints(pattern=_PRINTABLE, max_length=500)]
Prose = Annotated[str, StringConstraints(pattern=_PROSE, max_length=64_000)]
FilePath = Annotated[str, StringConstraints(pattern=_PRINTABLE, min_length=1, max_length=1024)]
Size = Annotated[int, Field(ge=0, le=1 << 50)]


class RequestBody(BaseModel):
    """Be the root of every request; unknown members are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BlobIn(RequestBody):
    """Name a blob and its length."""

    digest: DigestText
    size_bytes: Size


class MissingIn(RequestBody):
    """Ask which of these blobs must be sent."""

    blobs: list[BlobIn] = Field(max_length=100_000)


class PushFileIn(BlobIn):
    """Place a blob in a revision."""

    path: FilePath


class PushIn(RequestBody):
    """Describe a push whose blobs have been sent.

    `expected_head` is the revision that the branch must stand at; null means that the branch must
    not exist yet; leaving it out appends to whatever the branch stands at.
    """

    branch: Ref = "main"
    files: list[PushFileIn] = Field(min_length=1, max_length=100_000)
    expected_head: DigestText | None = None
    base_model: Line | None = None
    message: Prose = ""
    author: Line = ""
    tags: list[Ref] = Field(default_factory=list, max_length=64)
    lineage: list[EdgeBody] = Field(default_factory=list, max_length=1000)
    metrics: dict[Line, float] = Field(default_factory=dict, max_length=1000)
    kind: Line | None = None
    allow_non_finite: bool = False


class TagIn(RequestBody):
    """Say what a tag points at: a digest, commit id, branch or tag."""

    revision: Annotated[str, StringConstraints(pattern=PATTERN_REVISION)]


class BaseModelIn(RequestBody):
    """Register a base model, its aliases and, to learn its shapes, its `config.json` as text."""

    name: Annotated[Line, Field(min_length=1)]
    aliases: list[Annotated[Line, Field(min_length=1)]] = Field(
        default_factory=list, max_length=100
    )
    config: str | None = Field(None, max_length=1 << 20)


class TokenIn(RequestBody):
    """Ask for a token of one namespace, or of all with `*`."""

    namespace: Annotated[str, StringConstraints(pattern=r"^(?:\*|" + PATTERN_PART[1:-1] + r")$")]
    role: Annotated[str, StringConstraints(pattern=r"^(?:read|write|admin)$")]
    label: Annotated[Line, Field(min_length=1)]
    expires_at: Annotated[
        str | None,
        Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"),
    ] = None


class CollectIn(RequestBody):
    """Ask to remove what no ref reaches, or with `dry_run` to list it."""

    grace_s: float | None = Field(None, ge=0, le=1e9)
    dry_run: bool = True
