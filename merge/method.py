"""Say what a method of merging is; `methods.py` lists them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from merge.definitions import MergeModule
from merge.options import Scalar

ANY_NUMBER = (1, 1 << 16)
#: Options that every method takes.
ALWAYS: Mapping[str, Scalar] = {"scale": 1.0}


class Space(StrEnum):
    """Name what a method looks at."""

    DELTA = "delta"
    KNOTS = "knots"
    CORE = "core"
    FACTORS = "factors"


class Reach(StrEnum):
    """Name the rank of a result for which none was asked."""

    ALL = "all"
    LARGEST = "largest input rank"
    TOTAL = "sum of the input ranks"


class Usual(StrEnum):
    """Name the weights of a method for which none were given."""

    SHARES = "1/n"
    WHOLE = "1"
    FOUND = "found by the method"


@dataclass(frozen=True, slots=True)
class Method:
    """Be one way to merge.

    Attributes:
        name: what people type.
        title: what its authors call it, or in a few words what it does.
        paper: arXiv number, or who published it.
        merge: its definition, for one module.
        usual: its weights where none are given; found ones cannot be given.
        options: what it can be told beside `scale`, with what it takes by itself.
        space: what it looks at.
        reach: the rank of the result where none is asked for.
        inputs: how many adapters it takes at least and at most.
        reducible: which of "rank" and "energy" can be asked for.
    """

    name: str
    title: str
    paper: str
    merge: MergeModule
    usual: Usual = Usual.WHOLE
    options: Mapping[str, Scalar] = field(default_factory=dict)
    space: Space = Space.DELTA
    reach: Reach = Reach.ALL
    inputs: tuple[int, int] = ANY_NUMBER
    reducible: frozenset[str] = frozenset({"rank", "energy"})

    def weights(self, asked: Sequence[float] | None, count: int) -> tuple[float, ...]:
        """Return the weights of so many inputs, those that were asked for or the usual ones."""
        usual = 1.0 if self.usual is Usual.WHOLE else 1 / count
        return tuple(asked) if asked is not None else (usual,) * count
