"""Draw a rate–distortion curve: what an adapter costs and loses, beside the least that is possible.

`figure_in` is how every picture is made and written; matplotlib is the extra `plot`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import DestinationError, OptionError
from compress.inspected import RatePoint
from compress.inspection import bound_curve, measured_layers
from compress.reports import bounded_bits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compress.inspected import Inspected
    from compress.reports import LayerReport

#: Blue and vermilion of Okabe and Ito, which colour-blind people tell apart.
_LINE, _POINTS = "#0072B2", "#D55E00"
_LOWEST_BITS, _RATES_PER_OCTAVE = 1 / 32, 3
_HIGHEST_BITS = 4.0
_INCHES = (6.4, 4.4)
_RESOLUTION = 150


def draw(picture: Path, found: Inspected, *, path: Path, against: Path | None, title: str) -> None:
    """Draw the bound of the original as a line and what a file reaches as points.

    Args:
        picture: a new `.png` or `.svg`; one of that name is replaced.
        found: what inspecting `path` found out.
        path: the adapter, or the `.tern`.
        against: the original, or None: then a `.tern` has no bound, and its errors are those that
            it records.
        title: the adapter's name.

    Raises:
        OptionError: matplotlib is not installed.
        DestinationError: the picture cannot be written.
        SourceError: an adapter is not valid.
        TernError: a `.tern` is not valid.
    """
    require_matplotlib()
    compressed = bool(found.part_bytes)
    original = against if against is not None else None if compressed else path
    points = _points(found, path, against) if compressed else ()
    line = bound_curve(original, _rates(points)) if original is not None else ()
    measured = against is not None
    with figure_in(picture, _INCHES) as figure:
        labels = (title, "measured" if measured else "as recorded")
        _fill(figure.add_subplot(), line, points, labels)


def require_matplotlib() -> None:
    """Check that matplotlib is installed, without importing it.

    Raises:
        OptionError: it is absent.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError(
            "drawing needs a package that is not installed",
            field="plot",
            expected="matplotlib",
            actual="no matplotlib",
            hint="install the extra: pip install 'ternery[plot]'",
        )


def _points(found: Inspected, path: Path, against: Path | None) -> tuple[RatePoint, ...]:
    """Give what the file reaches: after every layer, or at its end where it has no layers."""
    if not found.parameters:
        return ()
    layers: Sequence[LayerReport] = found.layers
    if layers and against is not None:
        layers = measured_layers(path, against)
    beside = found.size.lossy - found.part_bytes.get("layers", 0)
    if layers:
        return tuple(
            RatePoint(bits, layer.error)
            for layer in layers
            if (bits := bounded_bits(beside + layer.bytes, found.parameters))
        )
    error = found.delta_error
    if error is None and (told := found.properties.get("delta_error")):
        error = float(told)
    bits = bounded_bits(found.size.lossy, found.parameters)
    return () if error is None or not bits else (RatePoint(bits, error),)


def _rates(points: Sequence[RatePoint]) -> list[float]:
    """Give rates, evenly spaced on a logarithmic axis, that reach beyond all points."""
    low = min([_LOWEST_BITS, *(point.bits_per_param for point in points)])
    high = max([_HIGHEST_BITS, *(point.bits_per_param for point in points)])
    rates = [low]
    while rates[-1] < high:
        rates.append(rates[-1] * 2 ** (1 / _RATES_PER_OCTAVE))
    return rates


@contextmanager
def figure_in(picture: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """Give an empty figure, and write it when the context ends.

    Args:
        picture: a new `.png` or `.svg`; one of that name is replaced.
        inches: width and height.

    Raises:
        DestinationError: the picture cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Texts stay texts in an svg, and the same curve is the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "adapters"}):
        figure = Figure(figsize=inches, layout="constrained")
        yield figure
        try:
            figure.savefig(picture, dpi=_RESOLUTION, metadata=_metadata(picture))
        except OSError as error:
            raise DestinationError(
                f"the picture cannot be written: {error.strerror}", file=str(picture)
            ) from error


def _metadata(picture: Path) -> dict[str, None]:
    """Leave out the date of an svg, so that the same curve is the same file."""
    return {"Date": None} if picture.suffix.lower() == ".svg" else {}


def _fill(
    axes: Axes, line: Sequence[RatePoint], points: Sequence[RatePoint], labels: tuple[str, str]
) -> None:
    title, how = labels
    if line:
        axes.plot(*_columns(line), color=_LINE, label="water-filling bound")
    if points:
        name = "layers of the file" if len(points) > 1 else "the file"
        axes.plot(
            *_columns(points), color=_POINTS, marker="o", linestyle="none", label=f"{name}, {how}"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title, parse_math=False)
    axes.set_xlabel("bits per LoRA parameter (header and all, less 1 KiB)")
    axes.set_ylabel("relative error of ΔW")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    if line or points:
        axes.legend(frameon=False)


def _columns(points: Sequence[RatePoint]) -> tuple[list[float], list[float]]:
    # a logarithmic axis has no zero
    return [p.bits_per_param for p in points], [max(p.error, 1e-6) for p in points]
