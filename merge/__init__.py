"""Merge adapters in ΔW space, so that the result does not depend on how ΔW was factored.

This room computes on the weights of adapters and writes an ordinary PEFT folder; it knows no hub,
no storage and no base model in memory. Start at `linear.py`, which is the method, then `expert.py`
and `compatibility.py`, which say what may be merged at all.
"""

from __future__ import annotations

from merge.errors import IncompatibleError, MergeError, MergeOptionError
from merge.linear import HeadPolicy, MergeReport, WeightedAdapter, merge_linear

__all__ = [
    "HeadPolicy",
    "IncompatibleError",
    "MergeError",
    "MergeOptionError",
    "MergeReport",
    "WeightedAdapter",
    "merge_linear",
]
