"""Check libraries of every mixture in memory, and that blocks and threads change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import loops, mask_products
from compress.trit_rows import pack_rows
from merge.compressed import (
    CompressedExpert,
    CompressedModule,
    Space,
    all_cosines,
    cosines_to,
)
from merge.compressed import gathering as gathering_module
from merge.compressed import similarity as similarity_module
from merge.compressed.experts import Rows, as_floats, row_columns
from merge.compressed.gathering import gather, unpacked
from tests.merge.compressed.libraries import dense_cosines

Array = NDArray[Any]
KINDS = ("trits", "bytes", "words", "halves", "floats")
SHAPES = {"q": (24, 70), "v": (65, 33), "out": (1, 64)}


def draw_rows(rng: np.random.Generator, kind: str, rank: int, columns: int) -> Rows:
    """Draw vectors of one kind."""
    trits = rng.integers(-1, 2, (rank, columns)).astype(np.int8)
    if kind == "trits":
        return pack_rows(trits)
    if kind == "bytes":
        return (trits * rng.integers(1, 120, (rank, columns))).astype(np.int8)
    if kind == "words":
        return (trits * rng.integers(1, 900, (rank, columns))).astype(np.int16)
    values: Array = rng.normal(size=(rank, columns))
    return values.astype(np.float16 if kind == "halves" else np.float32)


def draw_expert(seed: int, kind: str, *, rank: int | None = None) -> CompressedExpert:
    """Draw an expert of one kind that has some of the modules, in ranks of its own."""
    rng = np.random.default_rng(seed)
    modules = {}
    for name, (d_out, d_in) in SHAPES.items():
        own = int(rng.integers(0, 4)) if rank is None else rank
        if rank is not None or rng.random() < 0.8:
            a, b = (draw_rows(rng, kind, own, columns) for columns in (d_in, d_out))
            weights = rng.normal(size=own)
            modules[name] = CompressedModule(a, b, weights, (0.5 + rng.random(), 2.0))
    return CompressedExpert(f"{kind} {seed}", kind, "base", "", modules)


def deltas(expert: CompressedExpert) -> dict[str, Array]:
    """Form the dense ΔW of every module, float64 [d_out, d_in]."""
    return {
        name: (as_floats(m.b).astype(np.float64).T * m.weights) @ as_floats(m.a).astype(np.float64)
        for name, m in expert.modules.items()
    }


def factors(expert: CompressedExpert) -> dict[str, Array]:
    """Form A and B, each times what +1 stands for."""
    found: dict[str, Array] = {}
    for name, module in expert.modules.items():
        assert module.scales is not None
        for side, rows, scale in zip("ab", (module.a, module.b), module.scales, strict=True):
            found[f"{name} {side}"] = scale * as_floats(rows).astype(np.float64)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(KINDS)), min_size=1, max_size=9),
    st.booleans(),
)
def test_any_mixture_is_exact(drawn: list[tuple[int, str]], compiled: bool) -> None:
    loops.load()
    experts = [draw_expert(seed, kind) for seed, kind in drawn]
    expected = dense_cosines([deltas(expert) for expert in experts])
    if compiled:
        found = all_cosines(experts)
    else:
        with loops.only_numpy():
            found = all_cosines(experts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(cosines_to(experts[0], experts), found[0], atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(KINDS)), min_size=1, max_size=6))
def test_any_mixture_of_factors_is_exact(drawn: list[tuple[int, str]]) -> None:
    experts = [draw_expert(seed, kind, rank=3) for seed, kind in drawn]
    expected = dense_cosines([factors(expert) for expert in experts])
    found = all_cosines(experts, space=Space.FACTORS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one = cosines_to(experts[0], experts, space=Space.FACTORS)
    np.testing.assert_allclose(one, found[0], atol=1e-6)


def test_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = [draw_expert(seed, KINDS[seed % len(KINDS)], rank=2) for seed in range(25)]
    whole = all_cosines(experts)
    monkeypatch.setattr(gathering_module, "_UNPACKED", 500)
    monkeypatch.setattr(similarity_module, "_TOGETHER", 30)
    monkeypatch.setattr(mask_products, "_FEWEST_ROWS", 3)
    monkeypatch.setattr(mask_products, "_BLOCK_BYTES", 1)
    np.testing.assert_allclose(all_cosines(experts), whole, atol=1e-7)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loops.load()
    experts = [draw_expert(seed, "trits", rank=7) for seed in range(120)]
    whole = all_cosines(experts)
    monkeypatch.setattr(mask_products, "THREADS", threads)
    assert all_cosines(experts).tobytes() == whole.tobytes()


def test_blocks_of_trits_are_unpacked_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = [draw_expert(seed, "trits", rank=1 + seed % 3) for seed in range(10)]
    monkeypatch.setattr(gathering_module, "_UNPACKED", 400)
    module = gather(experts, "q")
    parts = list(unpacked(module))
    assert len(parts) > 1
    assert np.concatenate([owners for owners, _ in parts]).tolist() == list(range(10))
    rows = np.concatenate([part.a for _, part in parts])
    assert module.trits is not None
    np.testing.assert_array_equal(rows, as_floats(module.trits.a))
    assert all(part.bounds[0] == 0 for _, part in parts)


def test_who_lacks_a_module_is_left_out() -> None:
    experts = [draw_expert(seed, KINDS[seed % 2], rank=2) for seed in range(4)]
    lacking = CompressedExpert("none", "trits", None, "", {})
    empty = draw_expert(9, "bytes", rank=0)
    module = gather([lacking, *experts, empty], "v")
    assert module.trit_owners.tolist() == [1, 3]
    assert module.dense_owners.tolist() == [2, 4]
    assert sorted(module.modules) == [1, 2, 3, 4]
    nothing = gather([lacking], "v")
    assert nothing.trits is None
    assert nothing.dense is None
    assert list(unpacked(nothing)) == []


def test_an_expert_knows_its_size_and_whether_it_is_zero() -> None:
    expert = draw_expert(1, "bytes", rank=2)
    values = sum(2 * (d_out + d_in) for d_out, d_in in SHAPES.values())
    assert expert.size_bytes == values
    assert not expert.is_zero()
    modules = {
        name: CompressedModule(module.a, module.b, np.zeros(module.rank))
        for name, module in expert.modules.items()
    }
    assert CompressedExpert("zero", "rd", None, "", modules).is_zero()
    assert CompressedExpert("empty", "rd", None, "", {}).is_zero()
    assert draw_expert(1, "trits", rank=0).is_zero()


@pytest.mark.parametrize("kind", KINDS)
def test_content_follows_every_value(kind: str) -> None:
    expert = draw_expert(1, kind, rank=2)
    assert expert.content() == draw_expert(1, kind, rank=2).content()
    assert expert.content() != draw_expert(2, kind, rank=2).content()
    module = expert.modules["q"]
    other = CompressedModule(module.a, module.b, -module.weights, module.scales)
    changed = CompressedExpert("x", kind, None, "", {**expert.modules, "q": other})
    assert changed.content() != expert.content()
    assert row_columns(module.a) == SHAPES["q"][1]


def test_opposites_have_a_cosine_of_minus_one() -> None:
    expert = draw_expert(1, "trits", rank=2)
    turned = {
        name: CompressedModule(m.a, m.b, -3 * m.weights, m.scales)
        for name, m in expert.modules.items()
    }
    other = CompressedExpert("other", "trits", None, "", turned)
    found = all_cosines([expert, other])
    np.testing.assert_allclose(found, [[1, -1], [-1, 1]], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_that_cancel_are_no_numbers_out_of_range(kind: str) -> None:
    expert = draw_expert(1, kind, rank=2)
    cancelling = {}
    for name, module in expert.modules.items():
        twice = []
        for rows in (module.a, module.b):
            values = as_floats(rows)[[0, 0]]
            twice.append(pack_rows(values.astype(np.int8)) if kind == "trits" else values)
        cancelling[name] = CompressedModule(twice[0], twice[1], np.array([1 / 3, -1 / 3]))
    found = all_cosines([expert, CompressedExpert("nothing", kind, None, "", cancelling)])
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1
