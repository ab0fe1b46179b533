"""Merge adapters in ΔW space, so that the result does not depend on how ΔW was factored.

This room computes on the weights of adapters and writes an ordinary PEFT folder; it knows no hub,
no storage and no base model in memory. Start at `methods.py`, which lists every way to merge with
its paper, then `merging.py`, which applies one to adapters. `expert.py` and `compatibility.py` say
what may be merged at all.
"""

from __future__ import annotations

from merge.errors import IncompatibleError, MergeError, MergeOptionError
from merge.merging import MergedModule, MergeReport, merge_adapters
from merge.method import Method
from merge.methods import METHODS
from merge.recipe import HeadPolicy, Recipe, WeightedAdapter

__all__ = [
    "METHODS",
    "HeadPolicy",
    "IncompatibleError",
    "MergeError",
    "MergeOptionError",
    "MergeReport",
    "MergedModule",
    "Method",
    "Recipe",
    "WeightedAdapter",
    "merge_adapters",
]
