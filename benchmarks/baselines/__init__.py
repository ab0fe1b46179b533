"""What others do with the same adapters: small methods, for comparison only.

Each gives the factors that a decoder would give and the bits that a file would take; headers and
names are not counted. None of them is offered to users. Start at `interface.py`; `methods.py` lists
them all, and each of its functions writes the decoded adapter as a PEFT folder.
"""

from __future__ import annotations

from benchmarks.baselines.interface import Adapter, Approximation, Baseline, Method, Point, measure
from benchmarks.baselines.methods import (
    BASELINES,
    bitdelta,
    compeft,
    int4,
    int8,
    loraquant,
    stc,
    svd,
)
from benchmarks.baselines.peft_folder import read_adapter

__all__ = [
    "BASELINES",
    "Adapter",
    "Approximation",
    "Baseline",
    "Method",
    "Point",
    "bitdelta",
    "compeft",
    "int4",
    "int8",
    "loraquant",
    "measure",
    "read_adapter",
    "stc",
    "svd",
]
