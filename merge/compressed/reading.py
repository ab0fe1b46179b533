"""Read experts into bit masks, small integers and scales, one file or folder at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from compress import container
from compress.adapter import LoraSettings, parse_settings
from compress.container import Stored
from compress.container_read import TernFile
from compress.dtypes import Array, cast, widen
from compress.errors import CompressError
from compress.lora import module_scale, pair_up
from compress.opened import is_tern, open_any
from compress.places import find_tern
from compress.rate_distortion import decoder, segment
from compress.rate_distortion.decoder import Described
from compress.task_vector import Initial
from compress.trit_rows import pack_rows
from merge.compressed.experts import CompressedExpert, CompressedModule
from merge.errors import IncompatibleError
from merge.expert import check_config

_PLAIN = "none"
_MOST = 1e300
#: Types in which an integer times its gain is stored as good as exactly.
_EXACT = ("F32", "F64")


def read_expert(path: Path, *, label: str = "") -> CompressedExpert:
    """Read an expert: a `.tern` file, a folder with one, a PEFT folder or a file of factors.

    Args:
        path: where it lies.
        label: how people call it; else the path.

    Raises:
        IncompatibleError: its ΔW is not the product of two factors, or it has no LoRA factors.
        TernError: it is compressed and damaged.
        SourceError: it is no adapter.
    """
    try:
        found = _read_tern(path, label) if is_tern(path) else None
        return found or _read_plain(path, label)
    except CompressError as error:
        error.file = error.file or str(path)
        raise


def _read_tern(path: Path, label: str) -> CompressedExpert | None:
    """Read a compressed expert, or nothing where its factors are not all compressed."""
    with TernFile(find_tern(path)) as tern:
        config = _config(path, tern.index.config)
        settings = parse_settings(tern.index.config) if config else LoraSettings()
        pairs = pair_up(tensor.info for tensor in tern.index.tensors)
        coded = {tensor.info.name for tensor in tern.index.coded if _is_change(tensor)}
        _require_pairs(path, [name for name, *_ in pairs])
        whole = all({a.name, b.name} <= coded for _, a, b in pairs)
        told_beside = any(t.info.name.endswith(".alpha") for t in tern.index.exact)
        if tern.method == container.LOSSLESS or not whole or told_beside:
            return None
        read = _layered if tern.method == container.RD else _ternary
        modules = dict(read(tern, settings))
        source = tern.metadata.get("source_sha256", "")
        return CompressedExpert(
            label or str(path), tern.method, _base(config), source, _finite(path, modules)
        )


def _is_change(tensor: Stored) -> bool:
    return tensor.initial is Initial.ZERO


def _ternary(tern: TernFile, settings: LoraSettings) -> Iterator[tuple[str, CompressedModule]]:
    """Pack the trits of every pair of factors."""
    trits, scales = {}, {}
    reader = tern.trit_reader()
    for tensor in tern.index.coded:
        info = tensor.info
        trits[info.name] = reader.read(info.size)
        # exactly what decoding gives: the scale in the type of the tensor
        scales[info.name] = float(widen(cast(tern.index.scales[tensor.group], info.dtype))[0])
    for name, a, b in pair_up(tensor.info for tensor in tern.index.coded):
        rank = a.shape[0]
        of_a, of_b = scales[a.name], scales[b.name]
        yield (
            name,
            CompressedModule(
                pack_rows(trits[a.name].reshape(rank, -1)),
                pack_rows(trits[b.name].reshape(-1, rank).T),
                np.full(rank, module_scale(name, rank, settings) * of_a * of_b),
                (of_a, of_b),
            ),
        )


def _layered(tern: TernFile, settings: LoraSettings) -> Iterator[tuple[str, CompressedModule]]:
    """Take the components of every module: vectors of integers, and their gains."""
    for coded in decoder.read(tern):
        values = np.zeros(coded.layout.size, np.float32)
        if coded.planes:
            values = segment.decode(coded.blocks, coded.layout, coded.planes)
        for module, components in zip(coded.modules, coded.parts, strict=True):
            if module.a is not None:
                scale = module_scale(module.name, module.rank, settings)
                yield module.name, _components(module, components, values, scale)


def _components(
    module: Described,
    components: Sequence[tuple[float, tuple[int, ...]]],
    values: Array,
    scale: float,
) -> CompressedModule:
    """Take the vectors of one module: integers and a gain, or what 16 bits make of both.

    All equal values of a vector are rounded alike where they are stored in 16 bits, so that it does
    not average out: there the rounded values are held, which are what decoding gives.
    """
    tensors = [side for side in (module.b, module.a) if side is not None]
    sides: list[list[Array]] = [[], []]
    weights = []
    for half, starts in components:
        factor, weight = np.float32(half), scale
        for side, start, size, tensor in zip(sides, starts, module.sizes, tensors, strict=True):
            vector = values[start : start + size]
            if tensor.info.dtype in _EXACT:
                weight *= float(factor)
                side.append(vector)
            else:
                side.append(decoder.stored(vector * factor, tensor))
        weights.append(weight)
    b, a = (
        _narrowest(np.stack(side)) if side else np.zeros((0, size), np.int8)
        for side, size in zip(sides, module.sizes, strict=True)
    )
    return CompressedModule(a, b, np.array(weights, np.float64))


def _narrowest(values: Array) -> Array:
    """Hold float32 values in one or two bytes each, if they are small integers."""
    if values.dtype != np.float32:
        return values
    largest = np.abs(values).max(initial=0.0)
    for dtype, most in ((np.int8, 127), (np.int16, 32767)):
        if largest <= most:
            integers: Array = values.astype(dtype)
            return integers if np.array_equal(integers, values) else values
    return values


def _read_plain(path: Path, label: str) -> CompressedExpert:
    """Read factors that are not compressed, or not all of them."""
    with open_any(path) as opened:
        config = _config(path, opened.source.config)
        found = opened.modules()
        _require_pairs(path, list(found))
        modules = {}
        for name, module in found.items():
            factors = opened.factors(module)
            modules[name] = CompressedModule(
                np.ascontiguousarray(factors.a, np.float32),
                np.ascontiguousarray(factors.b.T, np.float32),
                np.full(module.rank, float(factors.scale)),
                (1.0, 1.0),
            )
        tern = opened.tern
        source = tern.metadata.get("source_sha256", "") if tern else opened.source.weights.sha256()
        return CompressedExpert(
            label or str(path), _PLAIN, _base(config), source, _finite(path, modules)
        )


def _config(path: Path, data: bytes) -> dict[str, Any]:
    """Read a config, if there is one, and refuse what gives the factors another meaning."""
    if not data:
        return {}
    parse_settings(data)
    config: dict[str, Any] = json.loads(data)
    check_config(path, config)
    return config


def _base(config: Mapping[str, Any]) -> str | None:
    named = config.get("base_model_name_or_path")
    return named if isinstance(named, str) and named else None


def _require_pairs(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise IncompatibleError(
            f"{path.name} holds no pair of LoRA factors",
            file=str(path),
            field="weights",
            expected="lora_A and lora_B",
            actual="none",
        )
    twice = [name for name, group in groupby(sorted(names)) if len(list(group)) > 1]
    if twice:
        raise IncompatibleError(f"{path.name} names a module twice", file=str(path), field=twice[0])


def _finite(path: Path, modules: dict[str, CompressedModule]) -> dict[str, CompressedModule]:
    """Refuse what has no length: NaN, infinities, and scales beyond all floats."""
    for name, module in modules.items():
        sides = (module.a, module.b)
        floats = [side for side in sides if isinstance(side, np.ndarray) and side.dtype.kind == "f"]
        # NaN fails every comparison
        if not all(float(np.abs(x).max(initial=0.0)) <= _MOST for x in (module.weights, *floats)):
            raise IncompatibleError(
                f"{path.name} holds numbers that are not finite",
                file=str(path),
                field=name,
                expected="finite numbers",
                actual="NaN or infinity",
            )
    return modules
