"""Check that machine code for masks is compiled beforehand, for everything that comes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from compress import loops, mask_products
from compress.mask_products import Paired, paired_sums, row_products
from compress.mask_sums import add_agreeing, add_scaled, majority
from compress.trit_rows import pack_rows

loops.load()
KERNELS = loops._Choice.loaded


def signatures(module: str, *names: str) -> list[int]:
    """Count for how many types functions are compiled."""
    return [len(getattr(KERNELS[module], name).signatures) for name in names]


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Compile everything first, as `python -m compress.kernels.cpu` does."""
    loops.compile_all()


@pytest.mark.parametrize("owners", [1, 2, 40, 300])
def test_products_compile_nothing_more(owners: int) -> None:
    before = signatures("mask_products", "paired_sums", "row_products")
    trits = np.ones((2 * owners, 70), np.int8)
    rows = pack_rows(trits)
    pairs = Paired(rows, rows, np.ones(2 * owners), np.arange(0, 2 * owners + 1, 2))
    assert (paired_sums(pairs) == 4 * 70**2).all()
    paired_sums(pairs.part(0, 1), pairs)
    assert (row_products(rows.part(0, 1), rows) == 70).all()
    assert signatures("mask_products", "paired_sums", "row_products") == before


def test_sums_compile_nothing_more() -> None:
    names = ("add_scaled", "add_agreeing", "majority")
    before = signatures("mask_sums", *names)
    rows = pack_rows(np.ones((2, 70), np.int8))
    total = np.zeros((2, 70))
    add_scaled(total, rows, 2)
    add_agreeing(total, total.copy(), rows, majority([rows] * 3), (1, 1))
    assert (total == 3).all()
    assert signatures("mask_sums", *names) == before


def test_blocks_keep_owners_whole() -> None:
    bounds = np.array([0, 5, 5, 300, 301, 330, 340, 700])
    rows = pack_rows(np.ones((700, 64), np.int8))
    pairs = Paired(rows, rows, np.ones(700), bounds)
    blocks = list(mask_products._owner_blocks(pairs))
    assert [first for first, _ in blocks] == [0, *(last for _, last in blocks[:-1])]
    assert blocks[-1][1] == pairs.owners
    assert max(last - first for first, last in blocks) > 1


def test_few_products_load_no_compiler() -> None:
    program = (
        "import sys, numpy as np; from compress.mask_products import row_products; "
        "from compress.trit_rows import pack_rows; rows = pack_rows(np.ones((9, 99), np.int8)); "
        "assert (row_products(rows, rows) == 99).all(); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
