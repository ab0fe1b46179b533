"""Open a fully fine-tuned model beside its base: the task vector is the difference of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.adapter import Source, SourceKind
from compress.dtypes import WEIGHT_DTYPES
from compress.errors import BaseMismatchError
from compress.lora import Role
from compress.places import plain_files
from compress.task_vector import Initial, Part, TaskVector
from compress.tensor_file import TensorInfo
from compress.weights import INDEX_SUFFIX, PICKLE_SUFFIXES, Weights, find_model_files, open_weights

MODEL_NAME = "model.safetensors"


@contextmanager
def open_residual(model: Path, base: Path) -> Iterator[tuple[Source, TaskVector, Weights]]:
    """Open both and pair their tensors; those without a partner of the same shape are kept exactly.

    Raises:
        BaseMismatchError: not one tensor has a partner.
        SourceError: a file is absent or not valid.
    """
    files = find_model_files(model)
    with open_weights(files) as weights, open_weights(find_model_files(base)) as base_weights:
        parts = [part for info in weights.tensors.values() if (part := _pair(info, base_weights))]
        if not parts:
            raise BaseMismatchError(
                "the base has no tensor of the same name and shape",
                file=base.name,
                expected=next(iter(weights.tensors), "a tensor"),
                actual=next(iter(base_weights.tensors), "no tensor"),
                hint="name the model that this one was trained from",
            )
        alone = len(weights.tensors) - len(parts)
        source = Source(
            kind=SourceKind.MODEL,
            weights=weights,
            weights_name=files[0].name if len(files) == 1 else MODEL_NAME,
            companions=_companions(model),
            warnings=(f"{alone} tensors have no partner in the base: kept exactly",)
            if alone
            else (),
        )
        yield source, TaskVector(weights, parts, base=base_weights), base_weights


@contextmanager
def open_differences(path: Path) -> Iterator[tuple[Source, TaskVector]]:
    """Open what was subtracted already: every floating tensor is a difference from the base.

    Raises:
        SourceError: a file is absent or not valid.
    """
    files = find_model_files(path)
    with open_weights(files) as weights:
        parts = [
            Part(info, Role.OTHER, Initial.ZERO)
            for info in weights.tensors.values()
            if info.dtype in WEIGHT_DTYPES and info.size
        ]
        source = Source(
            kind=SourceKind.RAW,
            weights=weights,
            weights_name=files[0].name if len(files) == 1 else MODEL_NAME,
            companions=_companions(path),
        )
        yield source, TaskVector(weights, parts)


def require_base(base: Weights, info: TensorInfo) -> None:
    """Check that a base has a tensor to add to.

    Raises:
        BaseMismatchError: it has not.
    """
    found = base.tensors.get(info.name)
    if found is None or found.shape != info.shape or found.dtype not in WEIGHT_DTYPES:
        raise BaseMismatchError(
            "the base lacks a tensor",
            field=info.name,
            expected=str(list(info.shape)),
            actual="none" if found is None else f"{list(found.shape)} {found.dtype}",
        )


def _pair(info: TensorInfo, base: Weights) -> Part | None:
    partner = base.tensors.get(info.name)
    if partner is None or partner.shape != info.shape or not info.size:
        return None
    if info.dtype not in WEIGHT_DTYPES or partner.dtype not in WEIGHT_DTYPES:
        return None
    return Part(info, Role.OTHER, Initial.BASE)


def _companions(model: Path) -> dict[str, Path]:
    if not model.is_dir():
        return {}
    weights = (".safetensors", INDEX_SUFFIX)
    return {
        name: file
        for name, file in plain_files(model)[0].items()
        if file.suffix.lower() not in PICKLE_SUFFIXES
        and ("/" in name or not name.endswith(weights))
    }
