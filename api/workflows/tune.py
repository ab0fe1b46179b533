"""Find the gain on ΔW that serves a task best, before an adapter is compressed with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from api.workflows.compress import Origin
from compress import Gain, Rd, compress_adapter, decompress

if TYPE_CHECKING:
    from api.forward.gain import GainCurve


@dataclass(frozen=True, slots=True)
class Tuning:
    """Say what a gain is judged by.

    Attributes:
        rows: JSON Lines of validation rows, which the adapter was not trained on.
        base_model: folder of the model that the adapter belongs to.
    """

    rows: Path
    base_model: Path


def tuned(origin: Origin, method: Rd, tuning: Tuning) -> tuple[Rd, GainCurve]:
    """Compress without a gain, try gains on what comes back, and put the best into the method.

    Args:
        origin: a PEFT folder.
        method: how it will be compressed; its own gain does not count.
        tuning: the rows and the model.

    Returns:
        the method with the best gain by loss, and what every gain led to.

    Raises:
        OptionError: the packages that run models are absent, or the rows do not fit the model.
        SourceError: the rows, the model or the adapter are not valid.
    """
    from api.forward import require_torch  # noqa: PLC0415 - torch only where a model runs

    require_torch()
    from api.forward.gain import tune_gain  # noqa: PLC0415
    from api.forward.rows import read_rows  # noqa: PLC0415

    rows = read_rows(tuning.rows)
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        packed, decoded = Path(name) / "small.tern", Path(name) / "decoded"
        compress_adapter(origin.path, packed, method=replace(method, gain=Gain.NONE))
        decompress(packed, decoded)
        curve = tune_gain(tuning.base_model, decoded, rows)
    return replace(method, gain=curve.gain), curve
