"""Read second moments of the inputs of modules, which say how much an error of ΔW matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.errors import SourceError
from compress.lora import LoraModule
from compress.tensor_file import TensorFile

SUFFIX = ".second_moment"


def read_moments(path: Path, modules: Sequence[LoraModule]) -> dict[str, Array]:
    """Read the moments of modules from a file, one tensor `<module>.second_moment` each.

    Args:
        path: the file.
        modules: those that may have moments; one without counts all inputs alike.

    Returns:
        float32 [d_in] or [d_in, d_in] by module.

    Raises:
        SourceError: not a safetensors file, or it has moments of none of the modules.
    """
    if not path.is_file():
        raise SourceError("no such file of second moments", file=str(path))
    moments = {}
    with TensorFile(path) as file:
        for module in modules:
            info = file.tensors.get(module.name + SUFFIX)
            if info is not None and info.dtype in WEIGHT_DTYPES:
                moments[module.name] = widen(file.read(info.name)).reshape(info.shape)
        if modules and not moments:
            raise SourceError(
                "there are no second moments of these modules",
                file=path.name,
                expected=modules[0].name + SUFFIX,
                actual=next(iter(file.tensors), "an empty file"),
                hint="make them with the base model of this adapter",
            )
    return moments


def mean_of(moment: Array) -> float:
    """Give the mean second moment of the inputs of a module: [d_in] or [d_in, d_in]."""
    diagonal = moment if moment.ndim == 1 else moment.diagonal()
    return float(diagonal.mean(dtype=np.float64))


def mean_moment(moments: Mapping[str, Array]) -> float:
    """Give the mean of the means of modules, which counts as usual; 1 without any."""
    return float(np.mean([mean_of(moment) for moment in moments.values()])) if moments else 1.0
