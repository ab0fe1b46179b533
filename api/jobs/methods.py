"""Turn the parameters of jobs into what the rooms below take: methods and recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.jobs.parameters import CompeftIn, MergeIn, MethodIn, RdIn

if TYPE_CHECKING:
    from compress import Compeft, Lossless, Rd
    from merge import Recipe


def method_of(how: MethodIn | None) -> Compeft | Lossless | Rd | None:
    """Return the method, or None for the best one that a source allows.

    Raises:
        OptionError: an option is out of its range, or two contradict each other.
    """
    from compress import Compeft, Gain, Heads, Lossless, Rd, Scope  # noqa: PLC0415 - NumPy

    if how is None:
        return None
    if isinstance(how, RdIn):
        given = how.model_dump(exclude={"method", "gain", "heads"})
        gain = Gain(how.gain) if isinstance(how.gain, str) else how.gain
        return Rd(**given, gain=gain, heads=Heads(how.heads))
    if isinstance(how, CompeftIn):
        given = how.model_dump(exclude={"method", "scope"})
        return Compeft(**given, scope=Scope(how.scope))
    return Lossless()


def recipe_of(asked: MergeIn) -> Recipe:
    """Return the recipe of a merge, once it fits so many adapters.

    Raises:
        MergeOptionError: an option or a weight is out of its range, or the method has none such.
    """
    from merge import HeadPolicy, Recipe  # noqa: PLC0415 - NumPy

    recipe = Recipe(
        method=asked.method,
        options=asked.options,
        rank=asked.rank,
        energy=asked.energy,
        heads=HeadPolicy(asked.heads),
        dtype=asked.dtype,
        base_override=asked.same_base,
    )
    recipe.check(asked.weights or [None] * len(asked.sources))
    return recipe
