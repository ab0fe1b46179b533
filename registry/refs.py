"""Read and write the names of adapters, branches, tags and revisions.

The grammar of a reference is `namespace/name[:ref][@digest]`; ref is a branch or a tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from registry.digest import Digest
from registry.errors import ValidationError

DEFAULT_BRANCH = "main"
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./-]{0,126}[A-Za-z0-9_-])?")
_HEX_LIKE = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RESERVED = frozenset(
    {
        "api",
        "resolve",
        "admin",
        "metrics",
        "health",
        "healthz",
        "ready",
        "readyz",
        "docs",
        "openapi.json",
    }
    | {"models", "datasets", "spaces", "static", "login", "settings"}
)


class RefKind(StrEnum):
    """Tell a name that moves with pushes from one that stays."""

    BRANCH = "branch"
    TAG = "tag"


def _check_part(text: str, field: str) -> str:
    bad = not _PART.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git")
    if bad or (field == "namespace" and text.lower() in _RESERVED):
        raise ValidationError(
            f"{field} {text[:120]!r} is not allowed",
            field=field,
            expected="1 to 96 of A-Z a-z 0-9 _ . -, starting with a letter or digit, "
            "not ending in - or ., no '--', no '..', not ending in .git, and not a reserved word",
            actual=text[:120],
        )
    return text


def check_namespace(text: str) -> str:
    """Return the namespace if it is allowed.

    Raises:
        ValidationError: it breaks the naming rule.
    """
    return _check_part(text, "namespace")


def check_ref_name(text: str) -> str:
    """Return the branch or tag name if it is allowed.

    Raises:
        ValidationError: it breaks the naming rule or looks like a commit id or digest.
    """
    wrong = (
        not _REF.fullmatch(text) or ".." in text or "//" in text or text.endswith((".lock", "/"))
    )
    if wrong or _HEX_LIKE.fullmatch(text) or text.startswith("refs/"):
        raise ValidationError(
            f"ref name {text[:140]!r} is not allowed",
            field="ref",
            expected="1 to 128 of A-Z a-z 0-9 _ . / -, no '..' or '//', not 'refs/…', "
            "not like a commit id",
            actual=text[:140],
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """Name an adapter: `namespace/name`."""

    namespace: str
    name: str

    def __post_init__(self) -> None:
        _check_part(self.namespace, "namespace")
        _check_part(self.name, "name")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> AdapterName:
        """Read `namespace/name`.

        Raises:
            ValidationError: there is no single `/`, or a part breaks the naming rule.
        """
        namespace, slash, name = text.partition("/")
        if not slash:
            raise ValidationError(
                f"{text[:120]!r} is not an adapter name",
                field="adapter",
                expected="namespace/name",
                actual=text[:120],
            )
        return cls(namespace, name)


@dataclass(frozen=True, slots=True)
class Reference:
    """Point at a revision: by branch or tag, by digest, or by both (which must then agree).

    Attributes:
        adapter: whose revision.
        ref: branch, tag or commit id; None means the default branch unless `digest` is given.
        digest: the revision's digest, if pinned.
    """

    adapter: AdapterName
    ref: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        ref = f":{self.ref}" if self.ref else ""
        return f"{self.adapter}{ref}" + (f"@{self.digest}" if self.digest else "")

    @property
    def branch(self) -> str:
        """Return the branch that a push to this reference moves."""
        return self.ref or DEFAULT_BRANCH

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `namespace/name[:ref][@digest]`.

        Raises:
            ValidationError: any part breaks its rule.
        """
        rest, at, digest = text.partition("@")
        name, colon, ref = rest.partition(":")
        if (colon and not ref) or (at and not digest):
            raise ValidationError(
                f"{text[:200]!r} ends where a ref or digest should stand",
                field="reference",
                expected="namespace/name[:ref][@sha256:…]",
                actual=text[:200],
            )
        if ref and not _HEX_LIKE.fullmatch(ref):
            check_ref_name(ref)
        return cls(AdapterName.parse(name), ref or None, Digest.parse(digest) if at else None)
