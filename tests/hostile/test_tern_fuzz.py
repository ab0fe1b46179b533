"""Run the fuzzer of `.tern` files for a moment; `make fuzz` runs it for ten minutes."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz_tern
from compress import loops


@pytest.mark.parametrize("seed", range(3))
def test_changed_and_forged_files_are_refused_or_harmless(seed: int, tmp_path: Path) -> None:
    loops.compile_all()
    outcomes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuzz_tern.one_seed(tmp_path, random.Random(seed), outcomes, changes=40)
    assert outcomes["damaged, whole: TernDamagedError"] >= 5
    assert outcomes["resealed: TernDamagedError"] >= 20
