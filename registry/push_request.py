"""Say what a push asks for and what it answers, and refuse what no push may ask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

from registry.catalog.values import RevisionRecord
from registry.digest import Digest
from registry.errors import ValidationError
from registry.jobs.values import Lease
from registry.manifest import LineageEdge, Manifest, Operation
from registry.refs import DEFAULT_BRANCH, AdapterName, check_ref_name
from registry.validation.file_paths import check_paths
from registry.validation.file_types import check_file_type

MAX_MESSAGE_CHARACTERS = 64_000
MAX_AUTHOR_CHARACTERS = 256
MAX_EDGES = 256
MAX_LINEAGE_CHARACTERS = 1 << 18
MAX_METRICS = 256
MAX_TAGS = 64


class AnyHead(Enum):
    """Stand for whatever head a branch has."""

    ANY = "any"


ANY = AnyHead.ANY
ExpectedHead: TypeAlias = Digest | Literal[AnyHead.ANY] | None


@dataclass(frozen=True, slots=True, order=True)
class PushFile:
    """Name one file of a push, whose blob was sent before."""

    path: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Ask for one new revision.

    Attributes:
        adapter: whose.
        files: every file of the revision; their blobs were sent before.
        branch: the branch to move, made if it is new.
        expected_head: where the branch must point now: a digest, None for "no such branch", or
            `ANY` to append to whatever is there.
        base_model: the base's name, where the configuration has none or a wrong one.
        message: what the pusher says about it.
        author: who pushes, as shown in the revision and in the audit log.
        tags: tags to set on the revision.
        lineage: what it was made from, without the parent.
        metrics: figures that the pusher reports.
        kind: declared kind, where the files alone do not tell.
        allow_non_finite: whether NaN and infinity among the weights are accepted.
        lease: the job whose result this is; it must hold when the branch moves.
    """

    adapter: AdapterName
    files: tuple[PushFile, ...]
    branch: str = DEFAULT_BRANCH
    expected_head: ExpectedHead = ANY
    base_model: str | None = None
    message: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    lineage: tuple[LineageEdge, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    kind: str | None = None
    allow_non_finite: bool = False
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class PushResult:
    """Answer a push.

    Attributes:
        revision: the branch's head now.
        created: False if it was there already with the same content.
    """

    revision: RevisionRecord
    created: bool


@dataclass(frozen=True, slots=True)
class MissingBlob:
    """Name a blob that has to be sent.

    Attributes:
        digest: which.
        offset: how many of its bytes came before, and where to continue.
    """

    digest: Digest
    offset: int


def check_request(request: PushRequest, *, max_files: int, max_bytes: int) -> None:
    """Refuse a push whose very form is wrong.

    Raises:
        ValidationError: a name, path, size, edge or metric in it is not allowed.
    """
    for name in (request.branch, *request.tags):
        check_ref_name(name)
    if len(request.tags) > MAX_TAGS or request.branch in request.tags:
        raise _refused(
            "tags", f"at most {MAX_TAGS} tags, none named like the branch", str(request.tags)
        )
    _check_files(request, max_files=max_files, max_bytes=max_bytes)
    _check_edges(request.lineage)
    _check_metrics(request.metrics)
    _check_text("message", request.message, limit=MAX_MESSAGE_CHARACTERS)
    _check_text("author", request.author, limit=MAX_AUTHOR_CHARACTERS)


def _check_files(request: PushRequest, *, max_files: int, max_bytes: int) -> None:
    paths = [file.path for file in request.files]
    if not 1 <= len(paths) <= max_files:
        raise _refused("files", f"1 to {max_files} files", f"{len(paths)} files")
    if len(set(paths)) != len(paths):
        raise _refused("files", "every path once", "a path twice")
    check_paths(paths)
    for path in paths:
        check_file_type(path)
    if any(file.size_bytes < 0 for file in request.files):
        raise _refused("files", "sizes of 0 or more", "a negative size")
    total = sum(file.size_bytes for file in request.files)
    if total > max_bytes:
        raise _refused("files", f"at most {max_bytes} bytes in all", f"{total} bytes")


def _check_edges(edges: tuple[LineageEdge, ...]) -> None:
    if len(edges) > MAX_EDGES:
        raise _refused("lineage", f"at most {MAX_EDGES} edges", f"{len(edges)} edges")
    for edge in edges:
        if edge.operation is Operation.PARENT:
            raise _refused("lineage", "no parent edge: it follows from the branch", "a parent edge")
        numbers = [edge.weight, *edge.parameters.values()]
        if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
            raise _refused("lineage", "finite numbers", "NaN or infinity")
    texts = (str(part) for edge in edges for pair in edge.parameters.items() for part in pair)
    _check_text("lineage", "".join(texts), limit=MAX_LINEAGE_CHARACTERS)


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > MAX_METRICS or any(len(name) > 128 for name in metrics):
        raise _refused(
            "metrics",
            f"at most {MAX_METRICS} metrics, names of at most 128 characters",
            f"{len(metrics)} metrics",
        )
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise _refused("metrics", "finite numbers", f"{name} = {value}")


def _check_text(name: str, text: str, *, limit: int) -> None:
    if len(text) > limit or "\0" in text or not _encodable(text):
        raise _refused(name, f"at most {limit} characters of text", f"{len(text)} characters")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(name: str, expected: str, actual: str) -> ValidationError:
    return ValidationError(
        f"this push is not allowed: {name} must be {expected}, not {actual[:200]}",
        field=name,
        expected=expected,
        actual=actual[:200],
    )


def same_content(request: PushRequest, manifest: Manifest) -> bool:
    """Tell whether a revision is what this push asks for, its base and kind aside."""
    files = tuple(PushFile(f.path, f.digest, f.size_bytes) for f in manifest.files)
    edges = tuple(e for e in manifest.lineage if e.operation is not Operation.PARENT)
    return (
        tuple(sorted(request.files)) == tuple(sorted(files))
        and [_comparable(e) for e in request.lineage] == [_comparable(e) for e in edges]
        and dict(request.metrics) == dict(manifest.metrics)
        and request.message == manifest.message
    )


def _comparable(edge: LineageEdge) -> tuple[object, ...]:
    return (edge.operation, edge.adapter, edge.revision, edge.weight, dict(edge.parameters))
