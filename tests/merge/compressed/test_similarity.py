"""Check cosines of compressed experts against dense ΔW of what they decode to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from merge.compressed import Space, all_cosines, cosines_to, read_expert
from merge.compressed.comparable import comparable
from tests.compress.rate_distortion import made
from tests.merge.compressed.libraries import compressed, decoded, dense_cosines, write


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write experts of three ranks and numbers of modules, by every method and by none."""
    folder = tmp_path_factory.mktemp("library")
    sources = [
        write(folder / "one", 1),
        write(folder / "two", 2, rank=3, modules=3, lora_alpha=5),
        write(folder / "half", 3, dtype="float16", use_rslora=True),
        write(folder / "near", 1, alpha_pattern={"q": 3}),
    ]
    made_of = [compressed(path, how) for path in sources for how in ("compeft", "rd", "lossless")]
    return [*sources, *made_of]


def test_all_pairs_are_those_of_dense_deltas(library: list[Path], tmp_path: Path) -> None:
    experts = [read_expert(path) for path in library]
    assert {expert.method for expert in experts} == {"none", "compeft", "rd"}
    expected = dense_cosines([decoded(path, tmp_path) for path in library])
    found = all_cosines(experts)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(found, found.T)
    assert np.diagonal(found) == pytest.approx(1)
    for number in (0, 5, 6):
        one = cosines_to(experts[number], experts)
        np.testing.assert_allclose(one, found[number], atol=1e-7)


@pytest.mark.parametrize("how", ["compeft", "rd"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_storage_type_is_exact(how: str, dtype: str, tmp_path: Path) -> None:
    paths = [compressed(write(tmp_path / f"{n}", n, dtype=dtype), how) for n in range(4)]
    expected = dense_cosines([decoded(path, tmp_path) for path in paths])
    found = all_cosines([read_expert(path) for path in paths])
    np.testing.assert_allclose(found, expected, atol=2e-6 if dtype == "float16" else 3e-7)


def test_real_experts_are_exact(examples: Path, tmp_path: Path) -> None:
    sources = [examples / "sst2", examples / "mr-rt-polarity"]
    paths = []
    for source in sources:
        near = tmp_path / source.name
        near.symlink_to(source)
        paths += [near, compressed(near, "rd"), compressed(near, "compeft")]
    deltas = [decoded(path, tmp_path) for path in paths]
    found = all_cosines([read_expert(path) for path in paths])
    np.testing.assert_allclose(found, dense_cosines(deltas), atol=1e-6)


def test_the_gauge_does_not_matter(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", 1)
    tensors = made.factors(1, modules=2, rank=4, sizes=(24, 40))
    gauge = np.random.default_rng(0).normal(size=(4, 4)) + 2 * np.eye(4)
    for name in list(tensors):
        turned = gauge @ tensors[name] if "lora_A" in name else tensors[name] @ np.linalg.inv(gauge)
        tensors[name] = turned.astype(np.float32)
    other = made.save(tmp_path / "turned", tensors)
    experts = [read_expert(plain), read_expert(other)]
    assert all_cosines(experts)[0, 1] == pytest.approx(1, abs=1e-6)
    assert all_cosines(experts, space=Space.FACTORS)[0, 1] < 0.9


def test_modules_that_one_lacks_count_as_zero(tmp_path: Path) -> None:
    tensors = made.factors(1, modules=2, rank=4, sizes=(24, 40))
    first = {name: value for name, value in tensors.items() if ".0." in name}
    second = {name: value for name, value in tensors.items() if ".1." in name}
    parts = [made.save(tmp_path / n, t) for n, t in (("1", first), ("2", second))]
    found = all_cosines([read_expert(path) for path in (*parts, write(tmp_path / "both", 1))])
    assert found[0, 1] == 0
    assert found[0, 2] ** 2 + found[1, 2] ** 2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("how", ["compeft", "rd", None])
def test_an_expert_that_is_zero_has_no_direction(how: str | None, tmp_path: Path) -> None:
    tensors = made.factors(1, modules=2, rank=4, sizes=(24, 40))
    for name in tensors:
        tensors[name] *= np.float32("lora_A" in name)
    path = made.save(tmp_path / "zero", tensors)
    zero = read_expert(compressed(path, how) if how else path)
    other = read_expert(write(tmp_path / "other", 2))
    found = all_cosines([zero, other])
    assert found.tolist() == [[0, 0], [0, pytest.approx(1)]]
    assert cosines_to(zero, [zero, other]).tolist() == [0, 0]


def test_factors_are_compared_as_published(tmp_path: Path) -> None:
    paths = [compressed(write(tmp_path / str(n), n), "compeft") for n in range(3)]
    paths.append(write(tmp_path / "plain", 2))

    def flat(path: Path) -> dict[str, np.ndarray]:
        from safetensors.numpy import load_file

        from compress import decode_tensors

        if path.is_dir():
            return load_file(path / "adapter_model.safetensors")
        return decode_tensors([path])[0]

    expected = dense_cosines([flat(path) for path in paths])
    experts, refused = comparable([read_expert(path) for path in paths], space=Space.FACTORS)
    assert not refused
    found = all_cosines(experts, space=Space.FACTORS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for number in (0, 3):
        one = cosines_to(experts[number], experts, space=Space.FACTORS)
        np.testing.assert_allclose(one, found[number], atol=1e-6)


def test_progress_is_told_by_module(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    experts = [read_expert(write(tmp_path / "one", 1, modules=3))]
    all_cosines(experts, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    experts = [
        read_expert(path, label=path.name)
        for path in (
            write(tmp_path / "first", 1),
            write(tmp_path / "fits", 2, rank=2, base_model_name_or_path="org/Tiny"),
            write(tmp_path / "other", 3, base_model_name_or_path="gpt2"),
            made.save(tmp_path / "wide", made.factors(1, modules=1, rank=2, sizes=(24, 48))),
            compressed(write(tmp_path / "small", 4), "rd"),
        )
    ]
    kept, refused = comparable(experts)
    assert [expert.label for expert in kept] == ["first", "fits", "small-rd.tern"]
    reasons = {each.label: each.reason for each in refused}
    assert "gpt2" in reasons["other"]
    assert "[24, 48], not [24, 40]" in reasons["wide"]
    kept, refused = comparable(experts, space=Space.FACTORS)
    assert [expert.label for expert in kept] == ["first"]
    assert "rank" in next(each.reason for each in refused if each.label == "fits")
    assert "no factors" in next(each.reason for each in refused if "rd" in each.label)


def test_nothing_is_compared_with_nothing() -> None:
    assert all_cosines([]).shape == (0, 0)
