"""The method `rd`: describe ΔW in as few bits as an error allows, or as well as bits allow.

ΔW is taken apart into components (`components.py`), whose vectors are quantised with one step by a
trellis (`trellis.py`, `viterbi.py`) that minimises distortion plus price times bits, the bits being
those of the entropy coder that follows (`models.py`, `pairs.py`). Levels are written in balanced
ternary, coarse planes first (`digits.py`, `segment.py`): a file that ends early is a coarser
adapter. `search.py` finds the step. It knows nothing of merging or storage. Start at `encoder.py`.
"""

from __future__ import annotations

from compress.rate_distortion.decoder import decode
from compress.rate_distortion.method import Gain, Heads, Rd

__all__ = ["Gain", "Heads", "Rd", "decode"]
