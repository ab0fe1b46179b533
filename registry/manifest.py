"""Describe one immutable revision: its files, where it came from and what it measured.

A manifest is canonical JSON (sorted keys, no spaces, UTF-8), so that equal manifests are equal
bytes; the sha256 of those bytes is the revision's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from registry.digest import Digest
from registry.refs import AdapterName

Scalar: TypeAlias = str | int | float | bool | None


class Operation(StrEnum):
    """Say what made a revision out of another."""

    PARENT = "parent"
    COMPRESSED_FROM = "compressed_from"
    MERGED_FROM = "merged_from"
    ROUTED_OVER = "routed_over"
    TRANSFERRED_FROM = "transferred_from"


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """List one file of a revision.

    Attributes:
        path: relative path with `/`, checked by `registry.validation.file_paths`.
        digest: sha256 of its bytes.
        size_bytes: its length.
        media_type: from our own allow-list.
    """

    path: str
    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """Name one revision that this one was made from.

    Attributes:
        operation: what was done.
        adapter: the source's adapter.
        revision: the source revision's digest.
        weight: its share in a merge, or None.
        parameters: the operation's options.
    """

    operation: Operation
    adapter: AdapterName
    revision: Digest
    weight: float | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ConfigSummary:
    """Keep what listings need of a configuration; the config file itself stays as it came.

    Attributes:
        kind: PEFT type (`LORA`, `IA3`, …) or `lora-raw`, `sparse-delta`, `full-residual`.
        encoding: `peft`, `tern` or `raw`.
        base_model: the base as the config wrote it, or None.
        rank: LoRA rank, or None.
        alpha: LoRA alpha, or None.
        target_modules: as declared, bounded in number.
        parameters: number of scalars in the weights before compression.
        compressible: whether it has a task vector.
        kept_exactly: what compression would leave as it is, for people.
    """

    kind: str
    encoding: str = "peft"
    base_model: str | None = None
    rank: int | None = None
    alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    parameters: int = 0
    compressible: bool = False
    kept_exactly: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Be the whole description of a revision.

    Attributes:
        adapter: whose revision this is.
        base_model: canonical name of the base model, or None if unknown.
        config: summary of the configuration.
        files: every file, sorted by path.
        lineage: what it was made from; at most one `parent` edge.
        metrics: named figures that the pusher reported.
        message: one line or more by the pusher.
        author: who pushed.
        created_at: UTC time, `YYYY-MM-DDThh:mm:ss.mmmZ`.
        warnings: what validation found odd, one sentence each.
    """

    adapter: AdapterName
    base_model: str | None
    config: ConfigSummary
    files: tuple[FileEntry, ...]
    lineage: tuple[LineageEdge, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    message: str = ""
    author: str = ""
    created_at: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def parent(self) -> Digest | None:
        """Return the revision before this one on its branch, or None."""
        return next((e.revision for e in self.lineage if e.operation is Operation.PARENT), None)

    @property
    def size_bytes(self) -> int:
        """Return the sum of all file sizes."""
        return sum(entry.size_bytes for entry in self.files)
