"""Check that machine code and NumPy give the same integers and the same bits of floats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import Rd, compress_adapter, decompress, loops, rans
from compress.dtypes import narrow
from compress.errors import OptionError, TernDamagedError
from compress.rate_distortion import segment, trellis, viterbi
from compress.rate_distortion.layout import Component, arrange
from tests.compress.rate_distortion import made

Array = NDArray[Any]
loops.load()
SIZES = [1, 2, 31, 32, 33, 997]


def tables_of(rng: np.random.Generator, bits: int, contexts: int, symbols: int) -> rans.Tables:
    """Draw frequencies above zero."""
    cuts = np.sort(
        np.stack([rng.permutation((1 << bits) - 1)[: symbols - 1] + 1 for _ in range(contexts)])
    )
    ends = np.pad(cuts, ((0, 0), (1, 0)))
    return rans.Tables(bits, np.diff(ends, axis=1, append=1 << bits))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("lanes", [1, 3, 32, 70])
@pytest.mark.parametrize("size", SIZES)
def test_streams_are_equal_and_come_back(size: int, lanes: int, grouped: bool) -> None:
    rng = np.random.default_rng(size * lanes)
    lanes = min(lanes, size)
    tables = tables_of(rng, 11 + size % 6, 3, 5)
    symbols = rng.integers(0, 5, size).astype(np.uint8)
    contexts = rng.integers(0, 3, size).astype(np.uint8)
    fast = rans.encode_stream(symbols, contexts, tables, lanes=lanes, grouped=grouped)
    with loops.only_numpy():
        slow = rans.encode_stream(symbols, contexts, tables, lanes=lanes, grouped=grouped)
    assert fast.tobytes() == slow.tobytes()
    parts = (fast.states, fast.words, contexts, tables)
    back = rans.decode(*parts, count=size, group_words=fast.group_words)
    assert back.tolist() == symbols.tolist()


@pytest.mark.parametrize("change", ["fewer words", "more words", "none", "other state"])
@pytest.mark.parametrize("grouped", [False, True])
def test_streams_that_do_not_end_are_refused(change: str, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    tables = tables_of(rng, 12, 1, 9)
    symbols = rng.integers(0, 9, 5000).astype(np.uint8)
    coded = rans.encode_stream(symbols, None, tables, lanes=64, grouped=grouped)
    states, words, groups = coded.states.copy(), coded.words, coded.group_words
    if change == "other state":
        states[40] ^= 1 << 20
    else:
        step = {"fewer words": -1, "more words": 1, "none": -len(words)}[change]
        words = words[:step] if step < 0 else np.append(words, words[-1:])
        if groups is not None:
            groups = groups.copy()
            groups[:] = 0 if change == "none" else groups
            groups[1] += step if change != "none" else 0
    with pytest.raises(TernDamagedError):
        rans.decode(states, words, None, tables, count=5000, group_words=groups)


def test_a_symbol_without_frequency_is_refused() -> None:
    tables = rans.Tables(4, np.array([[8, 0, 8]], np.uint32))
    symbols = np.array([0, 2, 1, 0], np.uint8)
    with pytest.raises(OptionError, match="frequency"):
        rans.encode(symbols, None, tables, lanes=2)
    with loops.only_numpy(), pytest.raises(OptionError, match="frequency"):
        rans.encode(symbols, None, tables, lanes=2)


@given(
    st.integers(0, 999),
    st.integers(1, 400),
    st.integers(1, 9),
    st.sampled_from([0.02, 0.7, 6.0, 200.0]),
    st.booleans(),
)
def test_the_search_chooses_the_same_levels(
    seed: int,
    pairs: int,
    lanes: int,
    size: float,
    weighted: bool,
) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(0, size, 2 * pairs).astype(np.float32)
    classes = np.sort(rng.integers(0, 3, 2 * pairs)).astype(np.uint8)
    bits = np.cumsum(rng.uniform(0.1, 2, (3, 2, 14)), axis=2).astype(np.float32)
    price = viterbi.Price(bits, float(rng.uniform(0.05, 1)), np.array([13, 4, 1], np.int16))
    weights = rng.uniform(0.2, 4, 2 * pairs).astype(np.float32) if weighted else None
    lanes = min(lanes, pairs)
    fast = viterbi.search(targets, classes, price, lanes=lanes, weights=weights)
    walked = trellis.walk(fast, lanes=lanes)
    with loops.only_numpy():
        slow = viterbi.search(targets, classes, price, lanes=lanes, weights=weights)
        assert fast.tolist() == slow.tolist()
        assert walked.tolist() == trellis.walk(slow, lanes=lanes).tolist()


def test_segments_are_equal_in_all_planes() -> None:
    rng = np.random.default_rng(1)
    components = [Component(0, energy, (601, 400)) for energy in (2, 9, 14, 17)]
    layout = arrange(components)
    targets = rng.normal(0, 3, layout.size).astype(np.float32)
    fast = segment.encode(targets, layout)
    with loops.only_numpy():
        slow = segment.encode(targets, layout)
    assert fast.blocks == slow.blocks
    for planes in range(1, len(fast.blocks) + 1):
        known = segment.decode(fast.blocks[:planes], layout, fast.planes)
        with loops.only_numpy():
            said = segment.decode(slow.blocks[:planes], layout, slow.planes)
        assert known.tobytes() == said.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_whole_files_are_equal(dtype: type[np.floating[Any]], tmp_path: Path) -> None:
    tensors = {name: value.astype(dtype) for name, value in made.factors(modules=4).items()}
    source = made.save(tmp_path / "source", tensors)
    compress_adapter(source, tmp_path / "fast.tern", method=Rd(bits=1.0))
    decompress(tmp_path / "fast.tern", tmp_path / "fast")
    with loops.only_numpy():
        compress_adapter(source, tmp_path / "slow.tern", method=Rd(bits=1.0))
        decompress(tmp_path / "slow.tern", tmp_path / "slow")
    assert (tmp_path / "fast.tern").read_bytes() == (tmp_path / "slow.tern").read_bytes()
    weights = "adapter_model.safetensors"
    fast, slow = (tmp_path / name / weights for name in ("fast", "slow"))
    assert fast.read_bytes() == slow.read_bytes()


def test_every_float16_and_what_lies_between_rounds_as_numpy_does() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    every = every[np.isfinite(every)]
    between = ((every[:-1].astype(np.float64) + every[1:]) / 2).astype(np.float32)
    beyond = np.array([65519.99, 65520, 65536, 3e38, np.inf, 1e-9, 1e-40], np.float32)
    above, below = np.nextafter(between, np.inf), np.nextafter(between, -np.inf)
    values = np.concatenate([every, between, above, below, beyond, -beyond]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert narrow(values, "F16").view(np.uint16).tolist() == expected.view(np.uint16).tolist()


def test_few_symbols_load_no_compiler() -> None:
    loops.compile_all()  # from now on it is compiled
    program = (
        "import sys, numpy as np; from compress import rans; "
        "t = rans.Tables(4, np.array([[8, 8]], np.uint32)); "
        "rans.encode(np.zeros(1000, np.uint8), None, t, lanes=8); "
        "assert 'numba' not in sys.modules; "
        "rans.encode(np.zeros(1 << 21, np.uint8), None, t, lanes=64); "
        "assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "failure", ["ImportError('numpy is too new')", "RuntimeError('no folder')"]
)
def test_numpy_goes_on_where_numba_cannot(failure: str) -> None:
    """Numba refuses versions of NumPy, and wants a folder that it may write to."""
    program = (
        "import importlib, numpy as np; from compress import loops, rans\n"
        f"def refuse(name): raise {failure}\n"
        "importlib.import_module = refuse\n"
        "loops.load()\n"
        "symbols, tables = np.zeros(100, np.uint8), rans.Tables(4, np.array([[8, 8]], np.uint32))\n"
        "states, words = rans.encode(symbols, None, tables, lanes=8)\n"
        "assert not rans.decode(states, words, None, tables, count=100).any()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
