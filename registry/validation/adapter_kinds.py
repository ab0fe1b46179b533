"""Tell the kinds of adapter apart and summarise each: PEFT, `.tern`, raw LoRA, deltas, models.

One function per way of writing weights down; `adapter_files.py` chooses among them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from registry.errors import LayoutError, UnknownKindError
from registry.validation.adapter_summary import AdapterSummary, Encoding, Kind
from registry.validation.checked_weights import CheckedWeights, size_of, some
from registry.validation.findings import Finding, FindingCode
from registry.validation.lora_keys import Family, LoraLayout, read_layout
from registry.validation.peft_types import PEFT_TYPES
from registry.validation.reasons import Reason
from registry.validation.weight_checks import check_weights, check_zero_factors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.validation.adapter_config import AdapterConfig
    from registry.validation.adapter_summary import TernContent
    from registry.validation.inspected_file import InspectedFile
    from registry.validation.safetensors_header import TensorInfo

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_DENSE = frozenset({Kind.FULL_RESIDUAL, Kind.FULL_MODEL})
_DECLARED = frozenset({Kind.FULL_RESIDUAL, Kind.FULL_MODEL, Kind.SPARSE_DELTA})
_TERN_NAMES = "index, trits, exact, heads and layers"
_TERN_TENSORS = frozenset({"index", "trits", "exact", "heads", "layers"})


def summarise_peft(config: AdapterConfig, file: InspectedFile) -> AdapterSummary:
    """Check and summarise a PEFT folder's weights.

    Raises:
        FileError: weights and configuration contradict each other.
    """
    weights = CheckedWeights(file.path, file.header, file.scan, config)
    layout, findings = check_weights(weights)
    coded = [tensor for tensor in file.header if _compresses(config.peft_type, tensor)]
    return AdapterSummary(
        kind=config.peft_type,
        encoding=Encoding.PEFT,
        base_model=config.base_model,
        task_type=config.task_type,
        rank=config.rank or None,
        alpha=config.alpha,
        target_modules=_targets(config),
        module_shapes=layout.module_shapes if layout else {},
        weight_files=(file.as_weight_file(),),
        compressible=bool(coded),
        kept_exactly=describe_kept(config.peft_type, file.header.tensors, coded),
        warnings=config.findings + tuple(findings),
    )


def summarise_tern(
    config: AdapterConfig | None,
    file: InspectedFile,
    content: TernContent | None,
    *,
    declared_kind: str = "",
) -> AdapterSummary:
    """Check and summarise a compressed adapter; what its streams mean is the codec's to say.

    Args:
        config: the configuration beside it or inside it, or None where there is none.
        file: the `.tern` file.
        content: what the caller's codec read inside it, or None where it did not look.
        declared_kind: what the pusher says it is, or empty: the residual of a model decodes to
            that model.

    Raises:
        LayoutError: it is no `.tern`.
    """
    _check_tern(file)
    kind = content.kind if content else Kind.TERN
    if kind is Kind.FULL_RESIDUAL and declared_kind in _DENSE:
        kind = Kind(declared_kind)
    weight_file = replace(file.as_weight_file(), parameters=content.parameters if content else {})
    summary = AdapterSummary(
        kind=kind,
        encoding=Encoding.TERN,
        module_shapes=content.module_shapes if content else {},
        weight_files=(weight_file,),
        compressible=content.compressible if content else False,
        kept_exactly=content.kept_exactly if content else "",
    )
    if config is not None:
        return replace(
            summary,
            kind=config.peft_type,
            base_model=config.base_model,
            task_type=config.task_type,
            rank=config.rank or None,
            alpha=config.alpha,
            target_modules=_targets(config),
            warnings=config.findings,
        )
    what = f"what {file.path} carries inside was not read"
    unread = Finding(FindingCode.TERN_CONFIG_UNREAD, file.path, "", what)
    return summary if content else replace(summary, warnings=(unread,))


def _check_tern(file: InspectedFile) -> None:
    wrong = [t for t in file.header if t.dtype != "U8" or t.name not in _TERN_TENSORS]
    if not wrong and file.header.tensors and file.header.metadata.get("format") == "tern":
        return
    raise LayoutError(
        f"{file.path} is a safetensors file, but not a .tern",
        reason=Reason.TERN_INVALID,
        file=file.path,
        field=wrong[0].name if wrong else "__metadata__",
        expected=f"U8 streams named {_TERN_NAMES}, and the metadata format=tern",
        actual=some(f"{t.name} {t.dtype}" for t in file.header.tensors) or "no tensors",
        hint="compress the adapter again, or push the safetensors file that it was made from",
    )


def summarise_raw(files: Sequence[InspectedFile], declared_kind: str) -> AdapterSummary:
    """Check and summarise weights that came without a configuration.

    Args:
        files: the safetensors files at the top of the upload.
        declared_kind: what the pusher says they are, or empty.

    Raises:
        UnknownKindError: they have no LoRA keys and nothing was declared.
        LayoutError: they contradict themselves.
    """
    if declared_kind in _DENSE:
        return _summarise_dense(files, Kind(declared_kind))
    layouts = [read_layout(file.header, file=file.path) for file in files]
    if any(layout.adapter for layout in layouts):
        return _one_file(_summarise_lora_raw(files, layouts))
    if all(is_sparse_delta(file.header.tensors) for file in files):
        return _one_file(_summarise_sparse(files))
    names = [tensor.name for file in files for tensor in file.header]
    raise UnknownKindError(
        f"{files[0].path} holds no adapter that we know: {some(names) or 'no tensors'}",
        reason=Reason.UNKNOWN_KIND,
        file=files[0].path,
        field=names[0] if names else "",
        expected="LoRA keys, pairs of .indices and .values, or a declared kind",
        actual=some(names) or "no tensors",
        hint="add adapter_config.json, or declare the kind: " + ", ".join(sorted(_DECLARED)),
    )


def _one_file(summary: AdapterSummary) -> AdapterSummary:
    """Say that weights without a configuration compress only where they are one file."""
    count = len(summary.weight_files)
    if count == 1:
        return summary
    why = f"all {count} weight files: push each alone to compress it"
    return replace(summary, compressible=False, kept_exactly=why)


def is_sparse_delta(tensors: Sequence[TensorInfo]) -> bool:
    """Return whether tensors are pairs `X.indices` (whole numbers) and `X.values` of one length."""
    by_name = {tensor.name: tensor for tensor in tensors}
    indices = [name for name in by_name if name.endswith(".indices")]
    if not indices or 2 * len(indices) != len(by_name):
        return False
    for name in indices:
        values = by_name.get(name.removesuffix(".indices") + ".values")
        if values is None or by_name[name].shape[-1:] != (values.count,):
            return False
        if by_name[name].dtype[0] not in "IU" or values.dtype not in _FLOATS:
            return False
    return True


def _summarise_lora_raw(
    files: Sequence[InspectedFile], layouts: Sequence[LoraLayout]
) -> AdapterSummary:
    modules = [module for layout in layouts for module in layout.modules]
    ranks = {module.rank for module in modules}
    families = frozenset[Family]().union(*(layout.families for layout in layouts))
    factors = {name for module in modules for name in (module.a.name, module.b.name)}
    tensors = [tensor for file in files for tensor in file.header]
    coded = [t for t in tensors if t.name in factors or _compresses("", t)]
    zero = frozenset[str]().union(*(file.scan.zero for file in files))
    return AdapterSummary(
        kind=Kind.LORA_RAW,
        encoding=Encoding.RAW,
        rank=ranks.pop() if len(ranks) == 1 else None,
        module_shapes={module.name: module.shape for module in modules},
        weight_files=tuple(file.as_weight_file() for file in files),
        compressible=bool(coded),
        kept_exactly=describe_kept("", tensors, coded),
        warnings=(
            _no_config(files[0].path, families),
            *check_zero_factors(modules, zero, files[0].path),
        ),
    )


def _no_config(path: str, families: frozenset[Family]) -> Finding:
    return Finding(
        FindingCode.NO_CONFIG,
        path,
        "adapter_config.json",
        f"there is no adapter_config.json: kept as {Kind.LORA_RAW}, its keys are spelled as by "
        f"{', '.join(sorted(families))}",
        "add adapter_config.json, which gives the scale, to load it with PEFT"
        if Family.PEFT in families
        else "load it with the program that trained it",
    )


def _summarise_sparse(files: Sequence[InspectedFile]) -> AdapterSummary:
    tensors = [tensor for file in files for tensor in file.header]
    coded = [tensor for tensor in tensors if tensor.name.endswith(".values") and tensor.count]
    return AdapterSummary(
        kind=Kind.SPARSE_DELTA,
        encoding=Encoding.RAW,
        weight_files=tuple(file.as_weight_file() for file in files),
        compressible=bool(coded),
        kept_exactly=describe_kept("", tensors, coded),
    )


def _summarise_dense(files: Sequence[InspectedFile], kind: Kind) -> AdapterSummary:
    tensors = [tensor for file in files for tensor in file.header]
    coded = [tensor for tensor in tensors if tensor.dtype in _FLOATS and tensor.count]
    kept = describe_kept("", tensors, coded)
    if kind is Kind.FULL_MODEL:
        kept = (f"{kept}, and " if kept else "") + "what its base model does not have"
    return AdapterSummary(
        kind=kind,
        encoding=Encoding.RAW,
        module_shapes={
            tensor.name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
            for tensor in tensors
            if len(tensor.shape) == 2 and tensor.name.endswith(".weight")
        },
        weight_files=tuple(file.as_weight_file() for file in files),
        compressible=bool(coded),
        kept_exactly=kept,
    )


def _compresses(peft_type: str, tensor: TensorInfo) -> bool:
    """Return whether a tensor belongs to its type's task vector; no type means no configuration."""
    if tensor.dtype not in _FLOATS or not tensor.count or tensor.name.endswith(".bias"):
        return False
    words = PEFT_TYPES[peft_type].compresses if peft_type in PEFT_TYPES else frozenset[str]()
    if not peft_type:
        words = PEFT_TYPES["LOHA"].compresses | PEFT_TYPES["LOKR"].compresses
    return not words.isdisjoint(tensor.name.split("."))


def describe_kept(
    peft_type: str, tensors: Iterable[TensorInfo], coded: Iterable[TensorInfo], *, why: str = ""
) -> str:
    """Say for people what compression leaves as it is; empty where that is nothing.

    Args:
        peft_type: of the configuration, or empty.
        tensors: all tensors.
        coded: those that are compressed.
        why: why none is, or empty where the type of adapter says.
    """
    names = {tensor.name for tensor in coded}
    kept = [tensor for tensor in tensors if tensor.name not in names]
    if not kept:
        return ""
    if names:
        return f"{some(tensor.name for tensor in kept)} ({len(kept)} tensors, {size_of(kept)})"
    row = PEFT_TYPES.get(peft_type)
    own = row.why_kept if row and row.why_kept else "no task vector is known for it"
    return f"all {len(kept)} tensors ({size_of(kept)}): {why or own}"


def _targets(config: AdapterConfig) -> tuple[str, ...]:
    targets = config.target_modules
    return (targets,) if isinstance(targets, str) else tuple(targets or ())[:64]
