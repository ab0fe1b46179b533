"""Compile all machine code beforehand: `python -m compress.kernels.cpu`."""

from __future__ import annotations

from compress import loops

loops.compile_all()
