"""Inspect the files of an upload: is this an adapter, of which kind, and what is odd about it?

The hub runs it over stored blobs and the client over a local folder before sending. Nothing is
executed and no tensor is loaded: headers are parsed, values stream by. Start at `inspect_files`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry.errors import UnknownKindError, WeightsMissingError
from registry.validation.adapter_config import MAX_CONFIG_BYTES, AdapterConfig, parse_config
from registry.validation.adapter_kinds import summarise_peft, summarise_raw, summarise_tern
from registry.validation.adapter_summary import AdapterSummary, Kind, TernReader
from registry.validation.checked_weights import CheckedWeights
from registry.validation.file_paths import check_paths
from registry.validation.file_sources import read_exactly, refuse_lfs_pointer
from registry.validation.file_types import SNIFF_BYTES, check_file_type
from registry.validation.findings import Finding, FindingCode
from registry.validation.foreign_tensors import check_other_tensors
from registry.validation.inspected_file import InspectedFile
from registry.validation.reasons import Reason
from registry.validation.safetensors_header import HeaderLimits, read_header
from registry.validation.shard_index import INDEX_FILE, check_shards
from registry.validation.tensor_scan import TensorScan, scan_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.validation.file_sources import FileSource

CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
TERN_WEIGHTS = "adapter_model.tern.safetensors"
TERN_SUFFIXES = (".tern", ".tern.safetensors")


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Say what the caller knows and allows.

    Attributes:
        declared_kind: what the pusher says it is, or empty: a residual and a whole model cannot be
            told apart by looking.
        read_tern: looks inside a `.tern` with the caller's codec and checks all of it, or None.
        allow_non_finite: report NaN and infinities instead of refusing them.
        limits: what a safetensors header may contain.
        scans: results by path for files whose values were scanned before.
    """

    declared_kind: str = ""
    read_tern: TernReader | None = None
    allow_non_finite: bool = False
    limits: HeaderLimits = field(default_factory=HeaderLimits)
    scans: Mapping[str, TensorScan] = field(default_factory=dict)


def inspect_files(
    files: Mapping[str, FileSource], *, options: InspectOptions | None = None
) -> AdapterSummary:
    """Inspect an upload as a whole.

    Args:
        files: every file by its path in the revision.
        options: what the caller knows and allows.

    Raises:
        FileError: it is refused; the class and `reason` say why, `hint` says what to do.
    """
    options = options or InspectOptions()
    for path in check_paths(files):
        check_start(path, files[path])
    weights = {
        path: _inspect_weights(path, source, options)
        for path, source in sorted(files.items())
        if path.endswith((".safetensors", ".tern"))
    }
    nested = _nested_findings(files, weights)
    if CONFIG_FILE in files:
        config = _read_config(CONFIG_FILE, files[CONFIG_FILE])
        summary = _with_config(config, files, weights, options=options)
    else:
        summary = _without_config(files, weights, options=options)
    return replace(summary, warnings=(*summary.warnings, *nested, *_odd_files(weights)))


def check_start(path: str, source: FileSource) -> None:
    """Refuse a file by its name or its first bytes: pickles, code, archives, Git LFS pointers.

    Raises:
        RefusedFileError: it is of a kind that is never accepted.
        LfsPointerError: it is a Git LFS pointer.
    """
    with source.open() as reader:
        start = read_exactly(reader, min(SNIFF_BYTES, source.size_bytes))
    refuse_lfs_pointer(start, file=path)
    check_file_type(path, start)


def _inspect_weights(path: str, source: FileSource, options: InspectOptions) -> InspectedFile:
    with source.open() as reader:
        header = read_header(reader, source.size_bytes, limits=options.limits, file=path)
        scan = options.scans.get(path)
        if scan is None:
            allow = options.allow_non_finite
            scan = scan_tensors(reader, header, allow_non_finite=allow, file=path)
    return InspectedFile(path, source.size_bytes, header, scan)


def _read_config(path: str, source: FileSource) -> AdapterConfig:
    with source.open() as reader:
        return parse_config(read_exactly(reader, MAX_CONFIG_BYTES + 1), path)


def _nested_findings(
    files: Mapping[str, FileSource], weights: Mapping[str, InspectedFile]
) -> tuple[Finding, ...]:
    """Look into adapters in subfolders, where X-LoRA keeps its experts and often a whole model."""
    findings: list[Finding] = []
    for path in sorted(path for path in files if path.endswith(f"/{CONFIG_FILE}")):
        file = weights.get(path.removesuffix(CONFIG_FILE) + PEFT_WEIGHTS)
        config = _read_config(path, files[path])
        if file is not None:
            nested = CheckedWeights(file.path, file.header, file.scan, config, path)
            findings += check_other_tensors(nested)
    return tuple(findings)


def _with_config(
    config: AdapterConfig,
    files: Mapping[str, FileSource],
    weights: Mapping[str, InspectedFile],
    *,
    options: InspectOptions,
) -> AdapterSummary:
    if PEFT_WEIGHTS in weights:
        return summarise_peft(config, weights[PEFT_WEIGHTS])
    if TERN_WEIGHTS in weights:
        content = options.read_tern(files[TERN_WEIGHTS]) if options.read_tern else None
        return summarise_tern(config, weights[TERN_WEIGHTS], content)
    seen = ", ".join(sorted(weights)[:4]) or "no safetensors file"
    raise WeightsMissingError(
        f"{CONFIG_FILE} is here, but the weights that it describes are not",
        reason=Reason.WEIGHTS_MISSING,
        file=PEFT_WEIGHTS,
        expected=f"{PEFT_WEIGHTS} or {TERN_WEIGHTS}",
        actual=seen,
        hint="add the weights; with Git LFS, `git lfs pull` fetches them",
    )


def _without_config(
    files: Mapping[str, FileSource],
    weights: Mapping[str, InspectedFile],
    *,
    options: InspectOptions,
) -> AdapterSummary:
    terns = [file for path, file in weights.items() if path.endswith(TERN_SUFFIXES)]
    at_top = [file for path, file in weights.items() if "/" not in path] or list(weights.values())
    if len(terns) == 1 and at_top == terns:
        content = options.read_tern(files[terns[0].path]) if options.read_tern else None
        embedded = content.config if content else b""
        config = parse_config(embedded, CONFIG_FILE) if embedded else None
        return summarise_tern(config, terns[0], content, declared_kind=options.declared_kind)
    top = [file for path, file in weights.items() if "/" not in path and file not in terns]
    if top:
        if INDEX_FILE in files:
            check_shards(files[INDEX_FILE], top)
        return summarise_raw(top, options.declared_kind)
    nested = sorted(path for path in files if path.endswith(f"/{CONFIG_FILE}"))
    seen = ", ".join(sorted(files)[:6]) or "no files"
    raise UnknownKindError(
        f"nothing here is an adapter: {seen}",
        reason=Reason.UNKNOWN_KIND,
        expected=f"{CONFIG_FILE} with {PEFT_WEIGHTS}, a .tern file, or LoRA weights as safetensors",
        actual=seen,
        hint=f"push the folder {nested[0].rpartition('/')[0]!r} instead"
        if nested
        else f"declare the kind where it is {Kind.FULL_RESIDUAL} or {Kind.FULL_MODEL}",
    )


def _odd_files(weights: Mapping[str, InspectedFile]) -> tuple[Finding, ...]:
    findings = [
        Finding(
            FindingCode.UNALIGNED,
            path,
            "header",
            f"the data of {path} starts at byte {file.header.data_start}, no multiple of 8",
            "memory maps are slower; the safetensors library writes aligned files",
        )
        for path, file in weights.items()
        if not file.header.aligned
    ]
    findings += [
        Finding(
            FindingCode.NON_FINITE,
            path,
            name,
            f"{path}: tensor {name!r} holds a NaN or an infinity at flat index {index}",
            "the training run diverged",
        )
        for path, file in weights.items()
        for name, index in sorted(file.scan.non_finite.items())
    ]
    return tuple(findings)
