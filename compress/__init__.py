"""Shrink task vectors to their entropy and give them back bit for bit.

This room knows arithmetic and its own file format, `.tern`; it needs NumPy and never torch, stores
nothing and speaks to no network. It does not merge, route or keep revisions. Start at `codec.py`
(compress), `decode.py` (back) and `container.py` (the file).
"""

from __future__ import annotations

from compress.codec import compress_adapter, compress_residual
from compress.compeft import Compeft, Scope
from compress.decode import decompress
from compress.errors import CompressError, TernError
from compress.inspection import inspect
from compress.lossless import Lossless
from compress.rate_distortion import Gain, Heads, Rd
from compress.reports import CompressionReport, Inspection
from compress.resident import decode_tensors

__all__ = [
    "Compeft",
    "CompressError",
    "CompressionReport",
    "Gain",
    "Heads",
    "Inspection",
    "Lossless",
    "Rd",
    "Scope",
    "TernError",
    "compress_adapter",
    "compress_residual",
    "decode_tensors",
    "decompress",
    "inspect",
]
