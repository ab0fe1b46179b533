"""Write what was measured as Markdown: a table per adapter, and what all adapters say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from benchmarks.baselines.interface import Point

#: The rates at which the aims ask for the ratio of `rd` to the bound.
AIM_BITS = (0.25, 0.5, 1.0, 2.0)
_ADAPTER_COLUMNS = (
    "method",
    "bits per param",
    "error of ΔW",
    "bound",
    "error / bound",
    "erased modules",
    "seconds",
    "chosen",
)
_SUMMARY_COLUMNS = (
    "method",
    "adapters",
    "bits per param",
    "error of ΔW",
    "error / bound",
    "largest",
    "erased modules",
    "of adapters",
    "seconds",
)
_PROMISE = (
    "Bits that rd needs for the error that compeft reaches at its best alpha, ÷ compeft's bits "
    "(the fewest bits measured count where fewer might do):"
)


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one measurement.

    Attributes:
        adapter: its folder's name.
        baseline: the recipe's name.
        point: what was measured.
        bound: least error at these bits.
    """

    adapter: str
    baseline: str
    point: Point
    bound: float

    @property
    def ratio(self) -> float:
        """Give error ÷ bound."""
        return self.point.error / self.bound


def adapter_table(rows: Iterable[Row]) -> list[str]:
    """Write one line per measurement of one adapter."""
    return [*_head(_ADAPTER_COLUMNS), *(_line(row) for row in rows)]


def summary_table(rows: Iterable[Row]) -> list[str]:
    """Write one line per method: geometric means over the adapters, erased modules added up.

    The lines of a recipe stand together, whichever adapters have them. A file of no more than the
    1 KiB that is not counted has no rate to compare and is left out.
    """
    lines = []
    rows = [row for row in rows if row.point.bits_per_param > 0]
    for group in _grouped(rows, lambda row: row.baseline).values():
        by_label = _grouped(group, lambda row: row.point.label)
        lines += [_summary_line(label, same) for label, same in by_label.items()]
    return [*_head(_SUMMARY_COLUMNS), *lines]


def aims(rows: Sequence[Row]) -> list[str]:
    """Write what the aims ask of `rd`: its ratio to the bound, and its bits beside compeft's."""
    rows = [row for row in rows if row.point.bits_per_param > 0]
    own = [row for row in rows if row.baseline == "rd"]
    if not own:
        return ["`rd` was not measured in this run."]
    lines = _head(("rd at", "adapters", "error / bound, geometric mean", "largest"))
    for bits in AIM_BITS:
        ratios = [row.ratio for row in own if row.point.label == f"rd {bits:g}"]
        if ratios:
            lines.append(_mean_line(f"{bits:g} bits", ratios))
    published = [row for row in rows if row.baseline == "compeft"]
    return [*lines, "", *_against_compeft(own, published)] if published else lines


def bits_for_error(curve: Iterable[tuple[float, float]], error: float) -> float | None:
    """Read from a curve how many bits an error needs.

    Args:
        curve: bits and error of every point, in any order, all above 0.
        error: the error asked for, above 0.

    Returns:
        Bits, interpolated linearly over the logarithm of the error; the fewest bits of the curve
        where these reach it already (fewer might do); None where no point reaches it.
    """
    before: tuple[float, float] | None = None
    for bits, reached in sorted(curve):
        if reached <= error:
            if before is None:
                return bits
            way = math.log(before[1] / error) / math.log(before[1] / reached)
            return before[0] + way * (bits - before[0])
        before = bits, reached
    return None


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _line(row: Row) -> str:
    point = row.point
    return (
        f"| {point.label} | {point.bits_per_param:.3f} | {point.error:.4f} | {row.bound:.4f} | "
        f"{row.ratio:.2f} | {point.erased_modules} | {point.seconds:.2f} | {point.note} |"
    )


def _summary_line(label: str, group: Sequence[Row]) -> str:
    points = [row.point for row in group]
    bits = geometric_mean(point.bits_per_param for point in points)
    error = geometric_mean(point.error for point in points)
    ratios = [row.ratio for row in group]
    erased = [point.erased_modules for point in points]
    return (
        f"| {label} | {len(group)} | {bits:.3f} | {error:.4f} | {geometric_mean(ratios):.2f} | "
        f"{max(ratios):.2f} | {sum(erased)} | {sum(map(bool, erased))} | "
        f"{sum(point.seconds for point in points):.1f} |"
    )


def _mean_line(label: str, values: Sequence[float]) -> str:
    return f"| {label} | {len(values)} | {geometric_mean(values):.3f} | {max(values):.3f} |"


def _against_compeft(own: Sequence[Row], published: Sequence[Row]) -> list[str]:
    curves = {
        adapter: [(row.point.bits_per_param, row.point.error) for row in group]
        for adapter, group in _grouped(own, lambda row: row.adapter).items()
    }
    lines = [_PROMISE, "", *_head(("compeft at", "adapters", "geometric mean", "largest"))]
    for label, group in _grouped(published, lambda row: row.point.label).items():
        needed = [
            (bits_for_error(curves[row.adapter], row.point.error), row.point.bits_per_param)
            for row in group
        ]
        shares = [own_bits / bits for own_bits, bits in needed if own_bits is not None]
        if shares:
            lines.append(_mean_line(label, shares))
    return lines
