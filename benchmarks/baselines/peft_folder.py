"""Read the LoRA modules of an adapter, and write it again with approximated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.baselines.interface import Adapter, Approximation, Method
from compress.adapter import CONFIG_NAME, Source, open_adapter
from compress.dtypes import Array
from compress.errors import SourceError
from compress.lora import LoraModule, find_modules
from compress.measure import Factors
from compress.places import copy_files, new_folder
from compress.tensor_file import TensorWriter


def read_adapter(path: Path) -> Adapter:
    """Read all LoRA modules of a PEFT folder or a safetensors file.

    Raises:
        SourceError: it is not valid, has no LoRA module, or has AdaLoRA's diagonals, which these
            baselines do not know.
    """
    with open_adapter(path) as source:
        modules = {module.name: _factors(source, module) for module in _modules(source)}
    if not modules:
        raise SourceError("there is no LoRA module to compress", file=path.name)
    return Adapter(path, modules)


def write_adapter(path: Path, destination: Path, *, approximation: Approximation) -> None:
    """Write an adapter again as a folder, its LoRA factors replaced, in float32.

    Everything else is as it was, names and shapes of the factors and the config too: a lower rank
    is filled up with zeros.

    Args:
        path: the adapter that was approximated.
        destination: a new folder.
        approximation: what takes the place of its modules.

    Raises:
        SourceError: the adapter is not valid.
        DestinationError: the destination is taken.
    """
    with open_adapter(path) as source, new_folder(destination) as folder:
        values = _new_values(source, approximation)
        infos = [
            replace(info, dtype="F32") if info.name in values else info
            for info in source.weights.tensors.values()
        ]
        metadata = {"format": "pt", **source.weights.metadata}
        with TensorWriter(folder / source.weights_name, infos, metadata=metadata) as writer:
            for info in infos:
                new = values.get(info.name)
                data = source.weights.read_bytes(info.name) if new is None else new.tobytes()
                writer.write(info.name, data)
        if source.config:
            (folder / CONFIG_NAME).write_bytes(source.config)
        copy_files(source.companions, folder)


def compress_folder(source: Path, destination: Path, *, method: Method) -> float:
    """Write the adapter that a method would decode to.

    Args:
        source: a PEFT folder or a safetensors file.
        destination: a new folder.
        method: what compresses.

    Returns:
        bits per element of A and B.

    Raises:
        CompressError: the source is not valid or the destination is taken; see its subclasses.
    """
    adapter = read_adapter(source)
    made = method.compress(adapter)
    write_adapter(source, destination, approximation=made)
    return made.size_bits / adapter.parameters


def _modules(source: Source) -> list[LoraModule]:
    modules = find_modules(source.weights, source.settings)
    for module in modules:
        if module.middle:
            raise SourceError("AdaLoRA is not known to the baselines", field=module.middle)
    return modules


def _factors(source: Source, module: LoraModule) -> Factors:
    a, b = (source.weights.read(name).astype(np.float64) for name in (module.a, module.b))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise SourceError("a factor holds NaN or infinity", field=module.name)
    return Factors(a.reshape(module.rank, -1), b.reshape(-1, module.rank), module.scale)


def _new_values(source: Source, approximation: Approximation) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for module in _modules(source):
        old = _factors(source, module)
        a, b = np.zeros(old.a.shape, np.float32), np.zeros(old.b.shape, np.float32)
        made = approximation.modules.get(module.name)
        if made is not None:
            a[: len(made.a)], b[:, : len(made.a)] = made.a, made.b
        values |= {module.a: a, module.b: b}
    return values
