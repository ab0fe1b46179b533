"""Turn the options of `adapters compress` into a method; options of another one are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import JsonValue

    from api.workflows.tune import Tuning
    from compress import Compeft, Gain, Lossless, Rd

P = ParamSpec("P")
R = TypeVar("R")

RD, COMPEFT, LOSSLESS = "rd", "compeft", "lossless"
TUNE = "tune"
_OWNERS = {
    RD: (
        "bits",
        "max_error",
        "layers",
        "max_module_error",
        "gain",
        "validation",
        "base_model",
        "heads",
        "calibrate",
        "trim_rank",
        "drop_modules",
    ),
    COMPEFT: ("density", "alpha", "scope", "exact_count"),
    LOSSLESS: (),
}
_FILES = ("calibrate", "validation", "base_model")
_GAINS = ("none", "norm")
_AMOUNTS = ("bits", "max_error", "layers")


class Asked(TypedDict):
    """Hold what the options of the methods said; None and False stand for nothing.

    The names are those of the options, with underscores.
    """

    method: str | None
    lossless: bool
    bits: float | None
    max_error: float | None
    layers: int | None
    max_module_error: float | None
    gain: str | None
    validation: Path | None
    base_model: Path | None
    heads: str | None
    calibrate: Path | None
    trim_rank: bool
    drop_modules: bool
    density: float | None
    alpha: float | None
    scope: str | None
    exact_count: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the method that was chosen.

    Attributes:
        method: with its options, or None for the best one without options.
        tuning: by which the gain is found first, or None.
    """

    method: Compeft | Lossless | Rd | None
    tuning: Tuning | None = None


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_OPTIONS = (
    click.option(
        "--method",
        type=click.Choice([RD, COMPEFT, LOSSLESS]),
        help="By default rd; compeft for a full fine-tune.",
    ),
    click.option("--lossless", is_flag=True, help="As --method lossless: every bit comes back."),
    click.option("--bits", type=float, help="rd: bits per parameter, header and all; else 0.5."),
    click.option("--max-error", type=float, help="rd: largest error of ΔW, in (0, 1)."),
    click.option("--layers", type=int, help="rd: so many ternary layers."),
    click.option("--max-module-error", type=float, help="rd: largest error of any module."),
    click.option(
        "--gain", metavar="G", help="rd: none, norm, a number, or tune; multiplies ΔW. Else none."
    ),
    click.option("--validation", type=_FILE, help="rd: JSON Lines that --gain tune judges by."),
    click.option("--base-model", type=_FOLDER, help="rd: the model that --gain tune runs."),
    click.option(
        "--heads",
        type=click.Choice(["exact", "int8", "int4"]),
        help="rd: how heads are kept; else exact.",
    ),
    click.option("--calibrate", type=_FILE, help="rd: what `adapters calibrate` wrote."),
    click.option("--trim-rank", is_flag=True, help="rd: give factors of the rank that is left."),
    click.option("--drop-modules", is_flag=True, help="rd: let weak modules go entirely."),
    click.option("--density", type=float, help="compeft: share kept, in (0, 1]; else 0.2."),
    click.option("--alpha", type=float, help="compeft: factor of the scale; else 1."),
    click.option(
        "--scope",
        type=click.Choice(["global", "factor", "tensor"]),
        help="compeft: which values compete; else global.",
    ),
    click.option("--exact-count", is_flag=True, help="compeft: exactly that share, ties by place."),
)


def method_options(action: Callable[P, R]) -> Callable[P, R]:
    """Add the options of every method to a command, which takes them as `Asked`."""
    for option in reversed(_OPTIONS):
        action = option(action)
    return action


def choose(asked: Asked, *, residual: bool) -> Choice:
    """Make the method that was asked for.

    Args:
        asked: what the options said.
        residual: the source is known to be a full fine-tune, for which compeft is the default.

    Raises:
        UsageError: an option belongs to another method, or two exclude each other.
        OptionError: a value is out of its range.
    """
    name = _name(asked, residual=residual)
    given = [key for key, value in asked.items() if value is not None and value is not False]
    _refuse_foreign(name, given)
    if name == LOSSLESS:
        from compress import Lossless

        return Choice(Lossless())
    if name == COMPEFT:
        return Choice(_compeft(asked))
    if not given:
        return Choice(None)
    if len(amounts := [key for key in given if key in _AMOUNTS]) > 1:
        raise click.UsageError(f"{_flags(amounts)} exclude each other: say one of them")
    return Choice(_rd(asked), _tuning(asked))


def how(asked: Asked) -> dict[str, JsonValue] | None:
    """Return the chosen method as a job takes it, or None for the best one without options.

    Raises:
        UsageError: an option belongs to another method, or names a file here.
        OptionError: a value is out of its range.
    """
    if choose(asked, residual=False).method is None:
        return None
    name = _name(asked, residual=False)
    files = [key for key, value in asked.items() if key in _FILES and value is not None]
    if files or asked["gain"] == TUNE:
        what = _flags(files or ["gain tune"])
        raise click.UsageError(f"{what} cannot go with --job: it needs files that are here")
    plain = {
        key: value
        for key, value in asked.items()
        if key in _OWNERS[name] and isinstance(value, bool | int | float | str)
    }
    given: dict[str, JsonValue] = {"method": name, **plain}
    if isinstance(gain := given.get("gain"), str) and gain not in _GAINS:
        given["gain"] = float(gain)
    return given


def _name(asked: Asked, *, residual: bool) -> str:
    if asked["lossless"] and asked["method"] not in {None, LOSSLESS}:
        raise click.UsageError(f"--lossless is a method of its own, and not {asked['method']}")
    default = COMPEFT if residual else RD
    return LOSSLESS if asked["lossless"] else asked["method"] or default


def _refuse_foreign(name: str, given: list[str]) -> None:
    for owner, options in _OWNERS.items():
        foreign = [key for key in given if key in options]
        if owner != name and foreign:
            belongs = "belongs" if len(foreign) == 1 else "belong"
            raise click.UsageError(
                f"{_flags(foreign)} {belongs} to the method {owner}, and this is {name}: "
                f"add --method {owner} or leave it out"
            )


def _flags(keys: list[str]) -> str:
    return " and ".join("--" + key.replace("_", "-") for key in keys)


def _compeft(asked: Asked) -> Compeft:
    from compress import Compeft, Scope

    default = Compeft()
    return Compeft(
        density=default.density if asked["density"] is None else asked["density"],
        alpha=default.alpha if asked["alpha"] is None else asked["alpha"],
        scope=Scope(asked["scope"] or default.scope),
        exact_count=asked["exact_count"],
    )


def _rd(asked: Asked) -> Rd:
    from compress import Heads, Rd

    return Rd(
        bits=asked["bits"],
        max_error=asked["max_error"],
        layers=asked["layers"],
        max_module_error=asked["max_module_error"],
        gain=_gain(asked["gain"]),
        heads=Heads(asked["heads"] or Heads.EXACT),
        trim_rank=asked["trim_rank"],
        drop_modules=asked["drop_modules"],
        moments=asked["calibrate"],
    )


def _gain(text: str | None) -> Gain | float:
    """Read a gain; one that is tuned is none at first."""
    from compress import Gain

    if text is None or text == TUNE:
        return Gain.NONE
    if text in set(Gain):
        return Gain(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise click.BadParameter(
            f"{text!r} is none of none, norm, tune and a number", param_hint="--gain"
        )
    return value


def _tuning(asked: Asked) -> Tuning | None:
    from api.workflows.tune import Tuning

    rows, base = asked["validation"], asked["base_model"]
    if asked["gain"] != TUNE:
        if rows or base:
            raise click.UsageError("--validation and --base-model are for --gain tune")
        return None
    if rows is None or base is None:
        raise click.UsageError("--gain tune needs --validation FILE.jsonl and --base-model DIR")
    return Tuning(rows, base)
