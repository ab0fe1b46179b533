"""Open what a person calls an adapter: a PEFT folder, or one safetensors file without a config.

Nothing in the config is acted on except the numbers that scale a LoRA; the config itself is kept as
bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from compress.errors import SourceError
from compress.places import plain_files
from compress.weights import PICKLE_SUFFIXES, Weights, open_weights, sole_safetensors

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
SUFFIX = ".safetensors"
_MAX_CONFIG_BYTES = 1 << 20
#: The default of PEFT's `LoraConfig`.
_PEFT_ALPHA = 8.0
_CHECKPOINT = re.compile(r"checkpoint-[0-9]+")
_LFS_POINTER = b"version https://git-lfs"


class SourceKind(IntEnum):
    """Name what was compressed. The numbers are part of the `.tern` format."""

    PEFT = 0
    RAW = 1
    MODEL = 2


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Hold the numbers of an adapter's config that scale ΔW.

    Attributes:
        peft_type: in capitals; empty where there is no config.
        rank: `r`, or None.
        alpha: `lora_alpha`, PEFT's default where a LoRA does not say it, or None.
        alpha_pattern: alpha by the end of the module's name.
        rank_stabilised: scale by √rank instead of rank (rsLoRA).
        of_parameters: bare parameters are adapted too, such as all experts of a layer in one.
    """

    peft_type: str = ""
    rank: int | None = None
    alpha: float | None = None
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False
    of_parameters: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Hold an opened adapter or model.

    Attributes:
        kind: adapter with config, without config, or model.
        weights: its tensors.
        weights_name: the name under which the weights are written again.
        config: the bytes of `adapter_config.json`, empty where there is none.
        settings: what the config says about scales.
        companions: the other files of the folder by relative path, to be copied unchanged.
        warnings: what the person should know.
    """

    kind: SourceKind
    weights: Weights
    weights_name: str
    config: bytes = b""
    settings: LoraSettings = field(default_factory=LoraSettings)
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@contextmanager
def open_adapter(path: Path) -> Iterator[Source]:
    """Open a PEFT folder, a folder with one safetensors file, or such a file alone.

    Raises:
        SourceError: the weights or the config are absent or not valid.
        PickleRefusedError: the weights are a pickle.
    """
    config = _read_config(path / CONFIG_NAME) if path.is_dir() else b""
    file = _weights_path(path)
    name = file.name if file.suffix == SUFFIX else file.name + SUFFIX
    companions, warnings = _companions(path, file) if path.is_dir() else ({}, ())
    with open_weights([file]) as weights:
        if weights.metadata.get("format") == "tern":
            raise SourceError(
                "this is compressed already", file=file.name, hint="decompress it first"
            )
        yield Source(
            kind=SourceKind.PEFT if config else SourceKind.RAW,
            weights=weights,
            weights_name=name,
            config=config,
            settings=parse_settings(config) if config else LoraSettings(),
            companions=companions,
            warnings=warnings,
        )


def parse_settings(config: bytes) -> LoraSettings:
    """Read the scaling numbers from the bytes of an `adapter_config.json`.

    Raises:
        SourceError: not a JSON object, or one of these numbers has the wrong type.
    """
    if config.startswith(_LFS_POINTER):
        raise SourceError(
            "the config is a Git LFS pointer",
            file=CONFIG_NAME,
            hint="run `git lfs pull` and try again",
        )
    try:
        values = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"the config is not JSON: {error}", file=CONFIG_NAME) from error
    if not isinstance(values, dict) or not isinstance(values.get("peft_type"), str):
        raise SourceError("the config names no PEFT type", file=CONFIG_NAME, field="peft_type")
    rank = _number(values, "r")
    return LoraSettings(
        peft_type=values["peft_type"].upper(),
        rank=None if rank is None else int(rank),
        alpha=_alpha(values),
        alpha_pattern=_number_table(values, "alpha_pattern"),
        rank_stabilised=bool(values.get("use_rslora")),
        of_parameters=bool(values.get("target_parameters")),
    )


def _alpha(values: Mapping[str, object]) -> float | None:
    """Read `lora_alpha`; a LoRA that does not say it has what PEFT takes then."""
    if "lora_alpha" not in values and str(values["peft_type"]).upper() == "LORA":
        return _PEFT_ALPHA
    return _number(values, "lora_alpha")


def _weights_path(path: Path) -> Path:
    if path.is_file():
        return path
    named = path / WEIGHTS_NAME
    return named if named.is_file() else sole_safetensors(path)


def _read_config(path: Path) -> bytes:
    if not path.is_file():
        return b""
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise SourceError(
            "the config is too large", file=path.name, expected=f"at most {_MAX_CONFIG_BYTES} bytes"
        )
    data = path.read_bytes()
    if not data:
        raise SourceError("the config is empty", file=path.name)
    return data


def _companions(folder: Path, weights: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    keep, left_out = {}, {}
    files, odd = plain_files(folder)
    for name, path in files.items():
        top = name.split("/")[0]
        if name in {weights.name, CONFIG_NAME}:
            continue
        if _CHECKPOINT.fullmatch(top):
            left_out[top] = "a checkpoint of the training"
        elif path.suffix.lower() in PICKLE_SUFFIXES:
            left_out[name] = "a pickle"
        else:
            keep[name] = path
    left_out |= dict.fromkeys(odd, "not a plain file")
    return keep, tuple(f"{name}: {why}, left out" for name, why in sorted(left_out.items()))


def _number(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise SourceError(
            "a setting has the wrong type",
            file=CONFIG_NAME,
            field=key,
            expected="a number",
            actual=repr(value)[:80],
        )
    return float(value)


def _number_table(values: Mapping[str, object], key: str) -> dict[str, float]:
    table = values.get(key) or {}
    if not isinstance(table, dict):
        raise SourceError(
            "a setting has the wrong type", file=CONFIG_NAME, field=key, expected="a table"
        )
    found = {name: _number(table, name) for name in table}
    return {name: number for name, number in found.items() if number is not None}
