"""Keep every bit of an adapter, in fewer bytes: the method `lossless`.

Every tensor goes into the exact part, whose blocks code the bytes of floating numbers plane by
plane (`float_planes.py`): the exponents of trained weights are predictable, their mantissas hardly.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lossless:
    """Be the method without options: exact bits back."""
