"""Print what compressing did: what it cost, beside what it could have cost at the least."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.forward.gain import GainCurve
    from compress import CompressionReport
    from compress.reports import HeadReport, LayerReport

LOSSLESS = "lossless"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what came of compressing.

    Attributes:
        report: what the codec says.
        where: the file or folder, or the published revision.
        digest: of the published revision, or None.
        curve: what every gain led to, where one was tuned.
    """

    report: CompressionReport
    where: str
    digest: str | None = None
    curve: GainCurve | None = None


def tell(session: Session, outcome: Outcome) -> None:
    """Print what compressing did; what was erased cannot be overlooked."""
    report = outcome.report
    for text in report.warnings:
        if not text.startswith("erased"):  # said louder below
            output.warning(text)
    if report.erased:
        names = ", ".join(report.erased[:6]) + (" …" if len(report.erased) > 6 else "")
        output.alarm(
            f"ERASED: nothing is left of {len(report.erased)} of {len(report.modules)} modules "
            f"({names}). {_REMEDY.get(report.method, '')}"
        )
    if session.as_json:
        curve = asdict(outcome.curve) if outcome.curve else None
        found = {"result": outcome.where, "digest": outcome.digest, "gain_curve": curve}
        output.as_json({**found, **report.to_json(), "bound_ratio": _bound_ratio(report)})
        return
    output.fields(_fields(report))
    if report.layers:
        output.line("")
        layer_table(report.layers, what="vectors" if report.delta_error is None else "ΔW")
        output.line("")
    output.line(outcome.where)


_REMEDY = {
    "compeft": "Raise --density, or try --scope factor.",
    "rd": "Give more --bits; no module goes without --drop-modules or a --gain of your own.",
}


def layer_table(layers: Sequence[LayerReport], *, what: str = "ΔW") -> None:
    """Print what an adapter costs and is worth up to each of its layers."""
    columns = (
        Column("layers", right=True),
        Column("bytes", right=True),
        Column(f"error of {what}", right=True),
    )
    rows = [
        (str(number), output.count(layer.bytes), f"{layer.error:.4f}")
        for number, layer in enumerate(layers, 1)
    ]
    output.table(columns, rows)


def _fields(report: CompressionReport) -> list[tuple[str, str]]:
    size = report.size
    return [
        ("method", ", ".join([report.method, *_settings(report)])),
        ("size", f"{output.size(report.source_bytes)} → {output.size(size.total)}"),
        ("ratio", f"{report.ratio:.1f}× of {_stored(report)}"),
        ("compressed part", _compressed(report)),
        ("parameters", output.count(report.parameters)),
        ("error of ΔW", _error(report)),
        ("error elsewhere", "" if report.vector_error is None else f"{report.vector_error:.4f}"),
        ("Shannon bound", _shannon(report)),
        ("heads", heads_text(report.heads)),
        ("kept exactly", _exact(report)),
    ]


def heads_text(heads: Sequence[HeadReport]) -> str:
    """Say what rounding heads saved, and what it cost."""
    if not heads:
        return ""
    before, after = sum(head.source_bytes for head in heads), sum(head.bytes for head in heads)
    worst = max(head.error for head in heads)
    return (
        f"{len(heads)} rounded, {output.size(before)} → {output.size(after)}, "
        f"error of their values up to {worst:.4f}"
    )


def _settings(report: CompressionReport) -> list[str]:
    return [f"{key.replace('_', ' ')} {value}" for key, value in report.settings.items()]


def _stored(report: CompressionReport) -> str:
    return report.baseline_dtype or "the stored type"


def _compressed(report: CompressionReport) -> str:
    if report.method == LOSSLESS or not report.parameters:
        return ""
    bits = f"{report.bits_per_param:.3f} bits per parameter"
    return f"{report.lossy_ratio:.1f}× of {_stored(report)}, {bits}"


def _error(report: CompressionReport) -> str:
    if report.delta_error is None:
        return "none, every bit comes back" if report.method == LOSSLESS else ""
    ratio = _bound_ratio(report)
    if ratio is None:
        return f"{report.delta_error:.4f}"
    bound = f"{report.error_bound:.4f}"
    return f"{report.delta_error:.4f}, {ratio:.3f} × the water-filling bound {bound}"


def _bound_ratio(report: CompressionReport) -> float | None:
    """Give the error of ΔW over the least that any coder reaches at this rate."""
    if report.delta_error is None or not report.error_bound:
        return None
    return report.delta_error / report.error_bound


def _shannon(report: CompressionReport) -> str:
    if not report.shannon_bytes:
        return ""
    share = report.size.lossy / report.shannon_bytes
    return f"{output.size(report.shannon_bytes)} of symbols; the compressed part is {share:.3f} ×"


def _exact(report: CompressionReport) -> str:
    kept = len(report.exact_tensors)
    return f"{kept} tensors, {output.size(report.size.exact)}" if kept else ""
