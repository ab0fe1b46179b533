"""Methods of this project, through real `.tern` files: the published ComPEFT, and any other.

Size: the bytes of the file less what is kept exactly, and less 1 KiB for header, names and config,
which the other baselines are not charged for at all.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.baselines.interface import Adapter, Approximation, compare, total
from benchmarks.baselines.peft_folder import read_adapter
from compress import Compeft, Scope, compress_adapter, decompress
from compress.measure import Energies

#: The grid of the paper (ComPEFT, arXiv 2311.13171).
ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
ALLOWANCE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class BestCompeft:
    """Take ComPEFT as published at the alpha of the paper's grid with the least error of ΔW.

    Attributes:
        density: share of values kept.
        scope: which values compete and share a scale.
        alpha: taken as it is where it is given.
    """

    density: float
    scope: Scope = Scope.GLOBAL
    alpha: float | None = None

    @property
    def label(self) -> str:
        """Name it: compeft global 5%."""
        return f"compeft {self.scope.value} {self.density:.0%}"

    def compress(self, adapter: Adapter) -> Approximation:
        """Write and read a file at alpha 1, and again at the best alpha if that is another."""
        alpha = self.alpha
        if alpha is None:
            alpha = best_alpha(total(compare(adapter, self._through(adapter, 1.0))))
        return self._through(adapter, alpha)

    def _through(self, adapter: Adapter, alpha: float) -> Approximation:
        method = Compeft(self.density, alpha, self.scope)
        return through_tern(adapter, method, note=f"alpha {alpha:g}")


def best_alpha(at_one: Energies) -> float:
    """Choose alpha from the energies at alpha 1.

    Alpha multiplies every value of A and of B, so ΔW grows by its square and nothing else changes.
    """
    return min(
        ALPHAS,
        key=lambda alpha: (
            Energies(
                at_one.original, at_one.approximation * alpha**4, at_one.inner * alpha**2
            ).error
        ),
    )


def through_tern(adapter: Adapter, method: Compeft, *, note: str = "") -> Approximation:
    """Compress an adapter into a file, decompress that, and read the modules again."""
    with tempfile.TemporaryDirectory() as work:
        file, folder = Path(work) / "x.tern", Path(work) / "decoded"
        report = compress_adapter(adapter.path, file, method=method)
        decompress(file, folder)
        decoded = read_adapter(folder)
    return Approximation(decoded.modules, 8 * (report.size.lossy - ALLOWANCE_BYTES), note)
