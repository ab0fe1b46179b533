"""Draw where adapters contradict one another: modules by layer, one panel for each figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from api.cli.module_grid import Grid, grid_of
from api.cli.plot import figure_in, require_matplotlib
from compress.errors import DestinationError, OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from merge.conflict_report import ConflictReport
    from merge.conflicts import ModuleConflict

PICTURES = (".png", ".svg")
#: Inches: of a cell, of what stands beside and above the cells, and of the whole.
_CELL_WIDE, _CELL_HIGH = 0.22, 0.21
_BESIDE, _ABOVE = 3.2, 0.75
_NARROWEST, _WIDEST, _LOWEST, _HIGHEST = 5.5, 18.0, 3.6, 30.0
#: At most so many columns have a label.
_MOST_LABELS = 40
_NO_VALUE = "#e6e6e6"


@dataclass(frozen=True, slots=True)
class _Panel:
    """Be one heat map.

    Attributes:
        title: what is shown, and what one end means.
        value: takes it from a module.
        colours: a map of colours that differ in lightness, which colour-blind people tell apart.
        middle: value of the middle colour, or None where the scale just spans the values.
    """

    title: str
    value: Callable[[ModuleConflict], float | None]
    colours: str
    middle: float | None = None


_PANELS = (
    _Panel("sign agreement (1: none contradicts)", lambda c: c.sign_agreement, "cividis"),
    _Panel(
        "interference, mean of the inputs (0: each acts as alone)",
        lambda c: c.mean_interference,
        "cividis_r",
    ),
    _Panel("norm kept (1: that of an input)", lambda c: c.norm_kept, "PuOr", middle=1.0),
)


def check_picture(picture: Path) -> None:
    """Check, before anything is merged, that a picture can be drawn.

    Raises:
        OptionError: it would be no `.png` or `.svg`, or matplotlib is not installed.
        DestinationError: its folder is not there.
    """
    if picture.suffix.lower() not in PICTURES:
        raise OptionError(
            "a picture is of another kind",
            field="plot",
            expected=" or ".join(PICTURES),
            actual=picture.name,
        )
    if not picture.parent.is_dir():
        raise DestinationError(
            "the picture cannot be written: its folder is not there", file=str(picture)
        )
    require_matplotlib()


def draw_conflicts(picture: Path, report: ConflictReport, *, title: str) -> None:
    """Draw the modules of a merge on a grid of layers and kinds.

    Modules that share a place (the experts of a layer) are averaged, weighted by their energy.

    Args:
        picture: a new `.png` or `.svg`; one of that name is replaced.
        report: what is drawn; without modules the picture is empty.
        title: what was merged.

    Raises:
        OptionError: see `check_picture`.
        DestinationError: the picture cannot be written.
    """
    check_picture(picture)
    grid = grid_of([name for name, _ in report.modules])
    wide = np.clip(_BESIDE + _CELL_WIDE * len(grid.layers), _NARROWEST, _WIDEST)
    high = np.clip(0.5 + len(_PANELS) * (_ABOVE + _CELL_HIGH * len(grid.kinds)), _LOWEST, _HIGHEST)
    with figure_in(picture, (float(wide), float(high))) as figure:
        figure.suptitle(title, parse_math=False, fontsize="medium")
        conflicts = [conflict for _, conflict in report.modules]
        for place, panel in enumerate(_PANELS, 1):
            axes = figure.add_subplot(len(_PANELS), 1, place)
            _fill(figure, axes, panel, grid=grid, values=_values(panel, grid, conflicts))


def _values(panel: _Panel, grid: Grid, conflicts: Sequence[ModuleConflict]) -> NDArray[np.float64]:
    """Give the value of every cell, float64 [kinds, layers]; NaN where there is none."""
    shape = (len(grid.kinds), len(grid.layers))
    totals, weights = np.zeros(shape), np.zeros(shape)
    for place, conflict in zip(grid.places, conflicts, strict=True):
        value = panel.value(conflict)
        if value is not None:
            energy = float(conflict.energies.sum())
            totals[place] += energy * value
            weights[place] += energy
    with np.errstate(invalid="ignore"):
        return totals / weights


def _fill(
    figure: Figure, axes: Axes, panel: _Panel, *, grid: Grid, values: NDArray[np.float64]
) -> None:
    axes.set_title(panel.title, fontsize="small", loc="left")
    axes.set_facecolor(_NO_VALUE)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize="x-small")
    if not values.size:
        return
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=panel.colours,
        norm=_scale(panel, values),
        edgecolors="white",
        linewidth=0.4,
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(grid.kinds)) + 0.5, grid.kinds, parse_math=False)
    step = -(-len(grid.layers) // _MOST_LABELS)
    turned = 90 if max(map(len, grid.layers)) > 3 else 0
    axes.set_xticks(
        np.arange(0, len(grid.layers), step) + 0.5, grid.layers[::step], rotation=turned
    )
    axes.set_xlabel("layer", fontsize="x-small")
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="x-small")


def _scale(panel: _Panel, values: NDArray[np.float64]) -> Normalize:
    """Span the values to the next tenth, evenly on both sides of a middle."""
    from matplotlib.colors import Normalize

    found = values[np.isfinite(values)]
    if not found.size:
        return Normalize(0.0, 1.0)
    if panel.middle is not None:
        reach = max(0.1, math.ceil(10 * float(np.abs(found - panel.middle).max())) / 10)
        return Normalize(panel.middle - reach, panel.middle + reach)
    least = math.floor(10 * float(found.min())) / 10
    return Normalize(least, max(least + 0.1, math.ceil(10 * float(found.max())) / 10))
