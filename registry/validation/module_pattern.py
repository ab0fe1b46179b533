"""Match a module's name against a pattern from a stranger's configuration, in bounded time.

PEFT runs `target_modules`, `rank_pattern` and `alpha_pattern` as regular expressions, and some
expressions never end. Here a pattern becomes a nondeterministic automaton (K. Thompson, 1968) whose
states are all followed at once: time grows with pattern times name and never explodes, and a
budget ends it. Look-arounds and back-references are not understood; such a pattern is reported,
not guessed at.
Start at `ModulePattern`.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.validation.pattern_syntax import (
    Alternatives,
    Assertion,
    Characters,
    Node,
    PatternError,
    Repeat,
    Sequence,
    parse_pattern,
)

_MAX_STATES = 2_000
_BUDGET = 30_000


@dataclass(slots=True)
class _State:
    """Be one state: consume a character, assert a place, fork, or (with nothing set) accept."""

    characters: frozenset[str] | None = None
    assertion: str = ""
    outs: tuple[int, ...] = ()


class ModulePattern:
    """Match names against one pattern as PEFT would.

    Args:
        pattern: the expression as the configuration has it.
        at_end: let it match the end of a dotted name (as the keys of `rank_pattern` do), not only
            the whole name (as a `target_modules` string does).

    Raises:
        PatternError: the pattern is malformed, too large, or uses what we do not understand.
    """

    def __init__(self, pattern: str, *, at_end: bool = False) -> None:
        node = parse_pattern(pattern)
        if at_end:
            prefix = Sequence((Repeat(Characters.anything(), 0, None), Characters(frozenset("."))))
            node = Sequence((Repeat(prefix, 0, 1), node))
        self._budget = _BUDGET
        self._states: list[_State] = [_State()]
        self._start = self._emit(node, 0)
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def fits(self, name: str) -> bool:
        """Return whether the pattern matches a name.

        Raises:
            PatternError: the budget of this pattern is spent.
        """
        current = self._close({self._start}, at_start=True, at_end=not name)
        for place, char in enumerate(name):
            key = (current, char)
            last = place == len(name) - 1
            if last or key not in self._steps:
                moved = self._move(current, char, at_end=last)
                if last:
                    return 0 in moved
                self._steps[key] = moved
            current = self._steps[key]
            if not current:
                return False
        return 0 in current

    def _move(self, current: frozenset[int], char: str, *, at_end: bool) -> frozenset[int]:
        moved: set[int] = set()
        for number in current:
            characters = self._states[number].characters
            if characters is not None and char in characters:
                moved.update(self._states[number].outs)
        return self._close(moved, at_start=False, at_end=at_end)

    def _close(self, numbers: set[int], *, at_start: bool, at_end: bool) -> frozenset[int]:
        """Follow every transition that consumes nothing."""
        seen = set(numbers)
        pending = list(numbers)
        while pending:
            state = self._states[pending.pop()]
            if state.characters is not None:
                continue
            holds = {"": True, "^": at_start, "$": at_end}[state.assertion]
            fresh = [out for out in state.outs if out not in seen] if holds else []
            seen.update(fresh)
            pending += fresh
        self._spend(len(seen) + 1)
        return frozenset(seen)

    def _spend(self, steps: int) -> None:
        self._budget -= steps
        if self._budget < 0:
            raise PatternError("takes too many steps to match")

    def _add(self, state: _State) -> int:
        if len(self._states) >= _MAX_STATES:
            raise PatternError("is too large")
        self._states.append(state)
        return len(self._states) - 1

    def _emit(self, node: Node, after: int) -> int:
        """Add the states of a node that continue at `after`; return where it starts."""
        self._spend(1)
        if isinstance(node, Characters):
            return self._add(_State(characters=node.allowed, outs=(after,)))
        if isinstance(node, Assertion):
            return self._add(_State(assertion=node.place, outs=(after,)))
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                after = self._emit(part, after)
            return after
        if isinstance(node, Alternatives):
            return self._add(_State(outs=tuple(self._emit(part, after) for part in node.parts)))
        return self._emit_repeat(node, after)

    def _emit_repeat(self, node: Repeat, after: int) -> int:
        if node.most is None:
            loop = self._add(_State())
            self._states[loop].outs = (self._emit(node.part, loop), after)
            after = loop
        else:
            end = after
            for _ in range(node.most - node.least):
                after = self._add(_State(outs=(self._emit(node.part, after), end)))
        for _ in range(node.least):
            after = self._emit(node.part, after)
        return after
