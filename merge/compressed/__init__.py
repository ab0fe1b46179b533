"""Compare and add experts as they are compressed: bit masks and scales, never a dense ΔW.

What is compared is ΔW, which no gauge of its factors changes: ⟨ΔWᵢ, ΔWⱼ⟩ is a sum of products of
vectors, and products of ternary vectors are counts of bits. Sums and TIES visit the values that are
not zero. This room reads `.tern` files and, beside them, ordinary folders; it writes nothing and
knows no hub. Start at `similarity.py`; `reading.py` opens an expert, `sums.py` adds its tensors.
"""

from __future__ import annotations

from compress.trit_rows import TernaryTensor
from merge.compressed.clusters import Clusters, find_clusters
from merge.compressed.duplicates import Pair, Relation, find_pairs
from merge.compressed.experts import CompressedExpert, CompressedModule
from merge.compressed.reading import read_expert
from merge.compressed.similarity import Space, all_cosines, cosines_to
from merge.compressed.sums import (
    Convention,
    Election,
    elect_signs,
    linear_sum,
    ties,
)

__all__ = [
    "Clusters",
    "CompressedExpert",
    "CompressedModule",
    "Convention",
    "Election",
    "Pair",
    "Relation",
    "Space",
    "TernaryTensor",
    "all_cosines",
    "cosines_to",
    "elect_signs",
    "find_clusters",
    "find_pairs",
    "linear_sum",
    "read_expert",
    "ties",
]
