"""Check the published recipe: counts, support, values and the edges where the original fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.adapter import LoraSettings
from compress.compeft import Compeft, Group, Scope, Ternariser, decide
from compress.container import Stored
from compress.errors import NonFiniteError, OptionError
from compress.restore import restore
from compress.task_vector import TaskVector, classify
from compress.weights import open_weights
from tests.compress.closed_form import per_group, published, same_values, stored

Array = NDArray[Any]
MakeRaw = Callable[..., Path]


@contextmanager
def vector_of(path: Path, peft_type: str = "") -> Iterator[TaskVector]:
    """Open the task vector of a file."""
    with open_weights([path]) as weights:
        placed = [classify(info, LoraSettings(peft_type)) for info in weights.tensors.values()]
        yield TaskVector(weights, [part for part in placed if part is not None])


def run(path: Path, method: Compeft) -> tuple[dict[str, Array], dict[str, Group]]:
    """Give the trits and the group of every tensor."""
    with vector_of(path) as vector:
        groups = decide(vector, method)
        ternariser = Ternariser(vector, groups)
        trits = {
            part.info.name: ternariser.whole(part).reshape(part.info.shape) for part in vector.parts
        }
        return trits, {part.info.name: ternariser.group_of(part) for part in vector.parts}


def factors(seed: int = 0, dtype: type = np.float32, b_scale: float = 0.1) -> dict[str, Array]:
    """Make two LoRA modules."""
    rng = np.random.default_rng(seed)
    return {
        "z.lora_A.weight": rng.normal(size=(4, 31)).astype(dtype),
        "z.lora_B.weight": (b_scale * rng.normal(size=(29, 4))).astype(dtype),
        "a.lora_A.weight": rng.normal(size=(3, 17)).astype(dtype),
        "a.lora_B.weight": (b_scale * rng.normal(size=(11, 3))).astype(dtype),
    }


GROUPS: dict[Scope, Callable[[str], str]] = {
    Scope.GLOBAL: lambda _key: "all",
    Scope.FACTOR: lambda key: key.split(".")[1],
    Scope.TENSOR: lambda key: key,
}


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_equals_the_published_steps(
    density: float, alpha: float, scope: Scope, dtype: type, make_raw: MakeRaw
) -> None:
    tensors = factors(dtype=dtype)
    trits, groups = run(make_raw(tensors), Compeft(density, alpha, scope))
    for key, (signs, scale) in per_group(tensors, GROUPS[scope], density, alpha).items():
        np.testing.assert_array_equal(trits[key], signs)
        assert groups[key].scale == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize(("percent", "kept"), [(5, 193), (10, 385), (20, 769), (50, 1921)])
def test_the_published_count_is_one_more(percent: int, kept: int, make_raw: MakeRaw) -> None:
    values = np.random.default_rng(5).permutation(3840).astype(np.float32) + 1
    path = make_raw({"x.lora_A": values.reshape(8, 480)})
    trits, groups = run(path, Compeft(percent / 100))
    assert int(np.count_nonzero(trits["x.lora_A"])) == kept == groups["x.lora_A"].kept
    exact, _ = run(path, Compeft(percent / 100, exact_count=True))
    assert int(np.count_nonzero(exact["x.lora_A"])) == kept - 1


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 700),
    density=st.floats(0.001, 1),
    levels=st.sampled_from([1, 2, 5, 1000]),
    seed=st.integers(0, 1000),
)
def test_exact_count_keeps_exactly_that_many(
    size: int, density: float, levels: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    values = (1 + rng.integers(0, levels, size)) * rng.choice([-1.0, 1.0], size)
    half = size // 2
    tensors = {"b.lora_A": values[half:].astype(np.float32)}
    if half:
        tensors["a.lora_A"] = values[:half].astype(np.float32)
    path = tmp_path_factory.mktemp("exact") / "x.safetensors"
    save_file(tensors, path)
    keep = int(size * density)
    if not keep:
        with pytest.raises(OptionError, match="nothing"):
            run(path, Compeft(density, exact_count=True))
        return
    trits, _ = run(path, Compeft(density, exact_count=True))
    flat = np.concatenate([trits[key] for key in sorted(trits)])
    assert int(np.count_nonzero(flat)) == keep
    magnitudes = np.abs(np.concatenate([tensors[key] for key in sorted(tensors)]))
    expected = np.lexsort((np.arange(size), -magnitudes))[:keep]
    assert set(np.flatnonzero(flat)) == set(expected.tolist())


def test_ties_are_all_kept_as_published(make_raw: MakeRaw) -> None:
    values = np.array([1, 1, 1, 1, 2, 2, 3, 0.5, 0.5, 0.5], np.float32)
    trits, _ = run(make_raw({"x.lora_A": values}), Compeft(0.3))
    assert np.flatnonzero(trits["x.lora_A"]).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_zero_inside_the_mask_has_no_sign(make_raw: MakeRaw) -> None:
    values = np.array([0, 0, 0, 5, -0.0, 0], np.float32)
    trits, groups = run(make_raw({"x.lora_A": values}), Compeft(0.5))
    assert trits["x.lora_A"].tolist() == [0, 0, 0, 1, 0, 0]
    assert groups["x.lora_A"].kept == 6


def test_density_one_keeps_every_sign(make_raw: MakeRaw) -> None:
    values = np.array([0.001, -5, 0, 2], np.float32)
    trits, _ = run(make_raw({"x.lora_A": values}), Compeft(1.0))
    assert trits["x.lora_A"].tolist() == [1, -1, 0, 1]


def test_density_one_keeps_every_sign_exactly(make_raw: MakeRaw) -> None:
    values = np.array([0.001, -5, 0.5, 2], np.float32)
    trits, _ = run(make_raw({"x.lora_A": values}), Compeft(1.0, exact_count=True))
    assert trits["x.lora_A"].tolist() == [1, -1, 1, 1]


def test_a_tiny_density_keeps_one_as_published(make_raw: MakeRaw) -> None:
    trits, _ = run(make_raw({"x.lora_A": np.array([1, -3, 2], np.float32)}), Compeft(0.001))
    assert trits["x.lora_A"].tolist() == [0, -1, 0]


@pytest.mark.parametrize("values", [[0.25], [-2.0], [3.0, 3.0, 3.0], [-0.1] * 70])
def test_without_spread_the_mean_magnitude_is_the_scale(
    values: list[float], make_raw: MakeRaw
) -> None:
    path = make_raw({"x.lora_A": np.array(values, np.float32)})
    _, groups = run(path, Compeft(0.5, alpha=2))
    assert groups["x.lora_A"].scale == pytest.approx(2 * abs(np.float32(values[0])), rel=1e-12)


def test_a_vector_of_zeros_stays_zero(make_raw: MakeRaw) -> None:
    trits, groups = run(make_raw({"x.lora_A": np.zeros(10, np.float32)}), Compeft(0.5))
    assert not trits["x.lora_A"].any()
    assert groups["x.lora_A"].scale == 0


def test_the_joint_threshold_erases_b(make_raw: MakeRaw) -> None:
    """Reproduce the known defect: A at its initial size and a small B."""
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, size=(16, 1024)) / 32
    b = 0.001 * rng.normal(size=(1024, 16))
    path = make_raw({"x.lora_A": a.astype(np.float32), "x.lora_B": b.astype(np.float32)})
    trits, _ = run(path, Compeft(0.05))
    assert not trits["x.lora_B"].any()
    apart, _ = run(path, Compeft(0.05, scope=Scope.FACTOR))
    assert np.count_nonzero(apart["x.lora_B"]) == 820


def test_it_does_not_matter_how_tensors_are_cut(
    make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(-3, 4, 1000).astype(np.float32)
    path = make_raw({"x.lora_A": values, "y.lora_A": values[::-1].copy()})
    for method in (Compeft(0.2), Compeft(0.2, exact_count=True)):
        whole, _ = run(path, method)
        monkeypatch.setattr("compress.task_vector.CHUNK", 33)
        cut, _ = run(path, method)
        monkeypatch.undo()
        for key, trits in whole.items():
            np.testing.assert_array_equal(cut[key], trits)


def test_float64_beside_float32_is_compared_exactly(make_raw: MakeRaw) -> None:
    tensors = {
        "a.lora_A": np.array([1.0, 1.0 + 1e-12, 0.5], np.float64),
        "b.lora_A": np.array([1.0, 0.25], np.float32),
    }
    trits, _ = run(make_raw(tensors), Compeft(0.2, exact_count=True))
    assert trits["a.lora_A"].tolist() == [0, 1, 0]
    assert trits["b.lora_A"].tolist() == [0, 0]


def test_values_are_plus_or_minus_alpha_sigma(make_raw: MakeRaw) -> None:
    tensors = factors(dtype=np.float16)
    path = make_raw(tensors)
    with vector_of(path) as vector:
        groups = decide(vector, Compeft(0.2, 3.0))
        ternariser = Ternariser(vector, groups)
        signs, scale = published(tensors, 0.2, 3.0)
        for part in vector.parts:
            tensor = Stored(part.info, part.role, part.initial)
            values = restore(ternariser.whole(part), tensor, groups[0].scale)
            expected = stored(signs[part.info.name], scale, np.float16)
            assert same_values(values.reshape(part.info.shape), expected)


@pytest.mark.parametrize("density", [0, -0.1, 1.0001, 20, math.nan, math.inf])
def test_a_density_outside_its_range_is_refused(density: float) -> None:
    with pytest.raises(OptionError) as caught:
        Compeft(density)
    assert caught.value.field == "density"


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
def test_an_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(OptionError) as caught:
        Compeft(alpha=alpha)
    assert caught.value.field == "alpha"


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(OptionError, match="scope"):
        Compeft(scope="layer")  # type: ignore[arg-type]


def test_a_nan_is_named(make_raw: MakeRaw) -> None:
    tensors = factors()
    tensors["z.lora_B.weight"][3, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"z\.lora_B\.weight"):
        run(make_raw(tensors), Compeft())
