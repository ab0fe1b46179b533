"""Say how adapters are merged, completely: the same recipe and inputs give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from merge.delta_space import Target
from merge.errors import MergeOptionError
from merge.method import ALWAYS, Method, Reach, Usual
from merge.methods import METHODS, method_named, usual_options
from merge.options import LARGEST, Options, Scalar, settle

STORED_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class HeadPolicy(StrEnum):
    """Say what becomes of full tensors beside the LoRA part, such as classifier heads.

    `auto` averages them where all adapters have the same, and keeps those of the first elsewhere.
    """

    AUTO = "auto"
    AVERAGE = "average"
    FIRST = "first"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """Name one input of a merge.

    Attributes:
        path: a PEFT folder.
        weight: its weight, or None for the method's usual one; all inputs have one, or none has.
        base: what its base model is known as to whoever knows all spellings; None takes the name
            in its config.
    """

    path: Path
    weight: float | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold everything that decides what a merge gives, but the inputs and their weights.

    Attributes:
        method: a name of `METHODS`.
        options: what the method is told, by name; see `Options`. The rest has its defaults.
        rank: rank of the result; None leaves it to the method.
        energy: keep the fewest directions of each module that hold this share of ‖ΔW‖².
        heads: what becomes of full tensors.
        dtype: float32, float16 or bfloat16; None takes that of the inputs, or float32 if they
            differ or have eight bits, which hold no sum.
        base_override: why adapters whose base models have different names may be merged; empty if
            they may not.
    """

    method: str = "linear"
    options: Mapping[str, Scalar] = field(default_factory=dict)
    rank: int | None = None
    energy: float | None = None
    heads: HeadPolicy = HeadPolicy.AUTO
    dtype: str | None = None
    base_override: str = ""

    @property
    def row(self) -> Method:
        """Return the method.

        Raises:
            MergeOptionError: there is none of this name.
        """
        return method_named(self.method)

    @property
    def settled(self) -> Options:
        """Return all options of the method.

        Raises:
            MergeOptionError: the method has no such option, or a value is out of its range.
        """
        row = self.row
        usual = {**usual_options(row, self.options), **ALWAYS}
        for name in self.options:
            if name not in usual:
                owners = [other.name for other in METHODS.values() if name in other.options]
                raise MergeOptionError(
                    f"{row.name} does not take {name}",
                    field=name,
                    expected=f"one of {', '.join(owners)}" if owners else ", ".join(sorted(usual)),
                    actual=row.name,
                )
        options = settle({**usual, **self.options})
        _require_probabilities(usual, options)
        return options

    def check(self, weights: Sequence[float | None]) -> tuple[float, ...]:
        """Check the whole recipe against the inputs and return a weight for each.

        Args:
            weights: as they were asked for, one for each input.

        Raises:
            MergeOptionError: something is out of range, or the method does not take it.
        """
        row, count = self.row, len(weights)
        options = self.settled
        _require_inputs(row, count)
        if "inner" in row.options:
            _require_inputs(METHODS[options.inner], count)
        for name in ("rank", "energy"):
            if getattr(self, name) is not None and name not in row.reducible:
                raise MergeOptionError(
                    f"{row.name} does not take {name}",
                    field=name,
                    expected="a method that does: linear, svd" if row.name == "cat" else "rank",
                    actual=name,
                )
        if self.rank is not None and self.rank < 1:
            raise MergeOptionError(
                "a rank is at least 1", field="rank", expected="≥ 1", actual=str(self.rank)
            )
        if self.energy is not None and not 0 < self.energy <= 1:
            raise MergeOptionError(
                "energy is a share of ‖ΔW‖²",
                field="energy",
                expected="in (0, 1]",
                actual=str(self.energy),
            )
        if self.dtype is not None and self.dtype not in STORED_TYPES:
            raise MergeOptionError(
                "adapters are not stored in this type",
                field="dtype",
                expected=", ".join(STORED_TYPES),
                actual=self.dtype[:40],
            )
        return row.weights(_given(row, weights), count)

    def target(self, ranks: Sequence[int]) -> Target:
        """Return what a module is reduced to, whose inputs have these ranks."""
        if self.rank is None and self.energy is None:
            reach = self.row.reach
            if reach is Reach.LARGEST:
                return Target(max(ranks))
            if reach is Reach.TOTAL:
                return Target(sum(ranks))
        return Target(self.rank, self.energy)

    def to_parameters(self) -> dict[str, Scalar]:
        """Return the whole recipe as a lineage keeps it."""
        row, options = self.row, self.settled
        taken = usual_options(row, self.options)
        kept: dict[str, Scalar | None] = {
            "method": self.method,
            "space": str(row.space),
            "scale": options.scale,
            **{name: getattr(options, name) for name in sorted(taken)},
            "rank": self.rank,
            "energy": self.energy,
            "heads": str(self.heads),
            "dtype": self.dtype,
            "base_override": self.base_override or None,
        }
        return {
            name: str(value) if isinstance(value, StrEnum) else value
            for name, value in kept.items()
            if value is not None
        }


def _require_probabilities(taken: Mapping[str, Scalar], options: Options) -> None:
    """Refuse a density ± epsilon outside of (0, 1), where these are DELLA's probabilities."""
    low, high = options.density - options.epsilon, options.density + options.epsilon
    if "epsilon" in taken and options.density < 1 and not 0 < low <= high < 1:
        raise MergeOptionError(
            "probabilities would leave (0, 1)",
            field="epsilon",
            expected="density − epsilon > 0 and density + epsilon < 1",
            actual=f"{low:g} to {high:g}",
        )


def _require_inputs(row: Method, count: int) -> None:
    least, most = row.inputs
    if not least <= count <= most:
        expected = f"{least} or more" if most > 1 << 10 else str(least) if least == most else ""
        raise MergeOptionError(
            f"{row.name} merges {expected} adapters" if count else "nothing to merge",
            field="inputs",
            expected=expected,
            actual=str(count),
            hint="multislerp and karcher take more than two" if "slerp" in row.name else "",
        )


def _given(row: Method, weights: Sequence[float | None]) -> list[float] | None:
    given = [weight for weight in weights if weight is not None]
    if not given:
        return None
    if len(given) != len(weights):
        raise MergeOptionError(
            "every adapter needs a weight, or none",
            field="weight",
            expected=f"{len(weights)} weights",
            actual=str(len(given)),
        )
    if row.usual is Usual.FOUND:
        raise MergeOptionError(
            f"{row.name} finds the weights itself",
            field="weight",
            expected="no weights",
            actual=", ".join(f"{weight:g}" for weight in given),
        )
    for weight in given:
        if not abs(weight) <= LARGEST:
            raise MergeOptionError(
                "a weight is too large or not a finite number",
                field="weight",
                expected=f"within ±{LARGEST:g}",
                actual=str(weight),
            )
    return given
