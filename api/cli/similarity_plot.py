"""Draw a library's cosines as a matrix, experts that are alike side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from api.cli.plot import figure_in, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from api.workflows.similar import Comparison
    from compress.dtypes import Array

#: So many names can be read beside the rows.
_NAMED = 60
_INCHES_PER_ROW, _SMALLEST, _LARGEST = 0.22, 3.5, 12.0


def draw(picture: Path, compared: Comparison, *, title: str) -> None:
    """Draw cosines, ordered by cluster: purple is alike, orange is opposite.

    Args:
        picture: a new `.png` or `.svg`; one of that name is replaced.
        compared: a library, with its clusters.
        title: what the cosines are of.

    Raises:
        OptionError: matplotlib is not installed.
        DestinationError: the picture cannot be written.
    """
    require_matplotlib()
    count = len(compared.experts)
    order = compared.clusters.order if compared.clusters is not None else np.arange(count)
    labels = [compared.experts[number].label for number in order.tolist()]
    matrix = compared.cosines[np.ix_(order, order)]
    inches = min(_LARGEST, max(_SMALLEST, 2.2 + _INCHES_PER_ROW * min(count, _NAMED)))
    with figure_in(picture, (inches + 0.9, inches)) as figure:
        _fill(figure, matrix, labels, title)


def _fill(figure: Figure, matrix: Array, labels: list[str], title: str) -> None:
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_title(title)
    if len(labels) <= _NAMED:
        places = range(len(labels))
        shown = [Path(label).name if len(label) > 30 else label for label in labels]
        axes.set_xticks(places, shown, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(places, shown, fontsize=7, parse_math=False)
    else:
        axes.set_xlabel(f"{len(labels)} experts, those of one cluster side by side")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.8)
