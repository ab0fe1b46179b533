"""Find a place for every module on a grid of layers and kinds, however it is named.

`base_model.model.model.layers.12.self_attn.q_proj` is the kind `q_proj` in layer 12. A UNet has
stages instead of layers: `down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q`, or the same
with underscores as kohya writes it, is `attn1.to_q` in `d0.1.0`. What has no number (`lm_head`)
stands in a column of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Where modules without a layer stand.
NO_LAYER = "–"
_NUMBER = re.compile(r"(?:^|[._:])([0-9]+)(?=[._:]|$)")
_STAGE = re.compile(
    r"(?P<side>down|mid|up)_blocks?(?:[._](?P<block>[0-9]+))?"
    r"(?:[._](?:attentions|resnets|motion_modules)[._](?P<place>[0-9]+))?"
    r"(?:[._]transformer_blocks[._](?P<inner>[0-9]+))?"
)
_SIDES = ("down", "mid", "up")
_LONGEST = 30

#: Numbers in the order of a stage with all its parts: 1, side, block, place and inner.
_DEEPEST = 5

Order = tuple[int, ...]
Place = tuple[Order, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Grid:
    """Hold columns and rows of a grid, and where each module stands.

    Attributes:
        layers: labels of the columns, in the order of the model; modules without a layer first.
        kinds: labels of the rows, in alphabetical order of what they stand for.
        places: row and column of each module, in the order in which they came.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


def grid_of(names: Sequence[str]) -> Grid:
    """Give every module its place; several may share one.

    Args:
        names: module names of one model.
    """
    found = _without_constant([_split(name) for name in names])
    orders = sorted({order for order, _, _ in found})
    labels = {order: label for order, label, _ in found}
    kinds = sorted({kind for _, _, kind in found})
    shown = _shortened(kinds)
    return Grid(
        layers=tuple(labels[order] for order in orders),
        kinds=tuple(shown),
        places=tuple((kinds.index(kind), orders.index(order)) for order, _, kind in found),
    )


def _split(name: str) -> Place:
    """Give the place in the order of layers, its label, and the words of the kind."""
    if stage := _STAGE.search(name):
        numbers = [int(n) for n in stage.group("block", "place", "inner") if n is not None]
        label = stage["side"][0] + ".".join(map(str, numbers))
        if stage["block"] is None:
            numbers.insert(0, 0)  # there is one middle block
        rest = name[: stage.start()] + "." + name[stage.end() :]
        return (1, _SIDES.index(stage["side"]), *numbers), label, _words(rest)
    if number := _NUMBER.search(name):
        layer = int(number[1])
        return (0, layer), str(layer), _words(name)
    return (-1,), NO_LAYER, _words(name)


def _without_constant(found: Sequence[Place]) -> list[Place]:
    """Leave out the innermost number of stages where it is 0 in all of them, as in SD 1.5."""
    if any(len(order) == _DEEPEST and order[-1] for order, _, _ in found):
        return list(found)
    return [
        (order[:-1], label.removesuffix(".0"), kind) if len(order) == _DEEPEST else place
        for place in found
        for order, label, kind in [place]
    ]


def _words(name: str) -> tuple[str, ...]:
    """Give what is left of a name without its numbers, in words."""
    words = (word.strip("_") for word in re.split(r"[.:]", _NUMBER.sub(".", name)))
    return tuple(word for word in words if word) or (name,)


def _shortened(kinds: Sequence[tuple[str, ...]]) -> list[str]:
    """Give each kind the fewest of its last words that no other kind ends with."""
    return [_cut(_ending(kind, kinds)) for kind in kinds]


def _ending(kind: tuple[str, ...], kinds: Iterable[tuple[str, ...]]) -> str:
    others = [other for other in kinds if other != kind]
    for count in range(1, len(kind)):
        ending = kind[-count:]
        if all(other[-count:] != ending for other in others):
            # What tells it apart may stand far in front: name it, and leave out what is between.
            return ".".join(ending) if count <= 2 else f"{ending[0]} … {'.'.join(ending[-2:])}"
    return ".".join(kind)


def _cut(label: str) -> str:
    if len(label) <= _LONGEST:
        return label
    head = _LONGEST // 3
    return f"{label[:head]}…{label[head + 1 - _LONGEST :]}"
