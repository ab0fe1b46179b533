"""Turn the parameters of a compress job into a method of the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.jobs.parameters import CompeftIn, MethodIn, RdIn

if TYPE_CHECKING:
    from compress import Compeft, Lossless, Rd


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
