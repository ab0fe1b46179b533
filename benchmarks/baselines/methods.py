"""Name every baseline twice: as rows of the table, and as a function from folder to folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.baselines.integers import Integers
from benchmarks.baselines.interface import Adapter, Baseline, Sweep
from benchmarks.baselines.low_rank import TruncatedSvd
from benchmarks.baselines.mixed_bits import LoraQuant
from benchmarks.baselines.peft_folder import compress_folder
from benchmarks.baselines.signs import BitDelta
from benchmarks.baselines.sparse_ternary import Stc
from benchmarks.baselines.tern_files import BestCompeft
from compress import Scope

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
LORAQUANT = tuple(
    LoraQuant(bits, ratio, refined=refined, deflated=deflated)
    for refined, deflated in ((False, False), (True, False), (True, True))
    for bits in (2, 3)
    for ratio in (0.8, 0.9)
)


def _ranks(adapter: Adapter) -> Iterable[TruncatedSvd]:
    return (TruncatedSvd(rank) for rank in range(1, adapter.rank + 1))


BASELINES: tuple[Baseline, ...] = (
    Sweep("compeft", lambda _: (BestCompeft(d, scope) for scope in Scope for d in DENSITIES)),
    Sweep("stc", lambda _: (Stc(d, scope) for scope in Scope for d in DENSITIES)),
    Sweep("bitdelta", lambda _: (BitDelta(),)),
    Sweep("int8", lambda _: (Integers(8),)),
    Sweep("int4", lambda _: (Integers(4, 64),)),
    Sweep("svd", _ranks),
    Sweep("loraquant", lambda _: LORAQUANT),
)


def compeft(
    source: Path,
    destination: Path,
    *,
    density: float = 0.2,
    scope: Scope = Scope.GLOBAL,
    alpha: float | None = None,
) -> float:
    """Write what ComPEFT decodes to, at the alpha with the least error of ΔW unless one is given.

    Args:
        source: a PEFT folder or a safetensors file.
        destination: a new folder.
        density: share of values kept, in (0, 1].
        scope: which values compete and share a scale.
        alpha: what multiplies the standard deviation.

    Returns:
        bits per element of A and B.

    Raises:
        CompressError: the source is not valid or the destination is taken; see its subclasses.
    """
    return compress_folder(source, destination, method=BestCompeft(density, scope, alpha))


def stc(
    source: Path, destination: Path, *, density: float = 0.2, scope: Scope = Scope.GLOBAL
) -> float:
    """Write what STC decodes to; arguments, result and errors as `compeft`."""
    return compress_folder(source, destination, method=Stc(density, scope))


def bitdelta(source: Path, destination: Path) -> float:
    """Write what BitDelta on A and B decodes to; result and errors as `compeft`."""
    return compress_folder(source, destination, method=BitDelta())


def int8(source: Path, destination: Path) -> float:
    """Write A and B rounded to 8 bits per component; result and errors as `compeft`."""
    return compress_folder(source, destination, method=Integers(8))


def int4(source: Path, destination: Path, *, group: int = 64) -> float:
    """Write A and B rounded to 4 bits in groups; result and errors as `compeft`."""
    return compress_folder(source, destination, method=Integers(4, group))


def svd(source: Path, destination: Path, *, rank: int = 1) -> float:
    """Write the best ΔW of a lower rank, in float16; result and errors as `compeft`."""
    return compress_folder(source, destination, method=TruncatedSvd(rank))


def loraquant(
    source: Path, destination: Path, *, bits: int = 2, ratio: float = 0.8, refined: bool = True
) -> float:
    """Write what the likeness of LoRAQuant decodes to; result and errors as `compeft`.

    Args:
        source: a PEFT folder or a safetensors file.
        destination: a new folder.
        bits: of the strong directions.
        ratio: the share of energy that they hold, in (0, 1].
        refined: choose the range of every group of them for the least error.
    """
    return compress_folder(source, destination, method=LoraQuant(bits, ratio, refined=refined))
