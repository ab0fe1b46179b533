"""Hold the options of the method `rd`: what is asked for, in one of three ways, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from compress.errors import OptionError
from compress.rate_distortion.digits import MAX_PLANES

DEFAULT_BITS, DEFAULT_ERROR = 0.5, 0.3
_BITS = (0.001, 8.0)


class Gain(StrEnum):
    """Say how the one global gain on ΔW is chosen."""

    NONE = "none"
    NORM = "norm"


class Heads(StrEnum):
    """Say how heads and other matrices beside the task vector are kept."""

    EXACT = "exact"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True, slots=True)
class Rd:
    """Hold the options of the method.

    Attributes:
        bits: bits of the compressed part, header and all, for every one of its parameters.
        max_error: the largest relative error of ΔW over the adapter, in (0, 1).
        layers: how many ternary layers; the strongest vectors just fill them.
        max_module_error: the largest relative error of any module's ΔW, in (0, 1).
        gain: one factor for all of ΔW: none (least error), norm (‖ΔW‖ as before) or a number.
        heads: what becomes of heads.
        trim_rank: give factors of the rank that is left, if that is lower.
        drop_modules: let weak modules go entirely where that saves bits.
        moments: a safetensors file of input second moments, `<module>.second_moment`.
        by_default: nobody said how much is wanted.

    Of bits, max_error and layers at most one is given. Without any, and without max_module_error,
    bits are `DEFAULT_BITS`; where names and config alone take more, the error is `DEFAULT_ERROR`.

    Raises:
        OptionError: an option is out of its range, or two contradict each other.
    """

    bits: float | None = None
    max_error: float | None = None
    layers: int | None = None
    max_module_error: float | None = None
    gain: Gain | float = Gain.NONE
    heads: Heads = Heads.EXACT
    trim_rank: bool = False
    drop_modules: bool = False
    moments: Path | None = None
    by_default: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        given = [
            name for name in ("bits", "max_error", "layers") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise OptionError(
                "say in one way how much is wanted",
                field=" ".join(given),
                expected="one of bits, max_error and layers",
                actual=", ".join(given),
            )
        if not given and self.max_module_error is None:
            object.__setattr__(self, "bits", DEFAULT_BITS)
            object.__setattr__(self, "by_default", True)
        _require("bits", self.bits, *_BITS)
        _require("layers", self.layers, 1, MAX_PLANES)
        for name in ("max_error", "max_module_error"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise OptionError(
                    "out of range", field=name, expected="a share in (0, 1)", actual=str(value)
                )
        if isinstance(self.gain, str):
            object.__setattr__(self, "gain", _member(Gain, "gain", self.gain))
        else:
            _require("gain", self.gain, 0.01, 100.0)
        object.__setattr__(self, "heads", _member(Heads, "heads", self.heads))


def _member(kind: type[StrEnum], name: str, value: str) -> StrEnum:
    if value not in set(kind):
        raise OptionError("unknown", field=name, expected=", ".join(kind), actual=str(value)[:80])
    return kind(value)


def _require(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise OptionError(
            "out of range", field=name, expected=f"{least:g} to {most:g}", actual=str(value)
        )
