"""Merge compressed adapters from their bit masks: as if they had been decoded first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from compress import Compeft, Rd, compress_adapter, decompress
from compress.errors import TernError
from merge import IncompatibleError, Recipe, WeightedAdapter, factor_space, merge_adapters
from merge.compressed import linear_sum, ties
from merge.expert import open_expert

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def packed(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Give two experts as `.tern` files, and decoded."""
    folder = tmp_path_factory.mktemp("packed")
    found = []
    for name, density in (("sst2", 0.1), ("mr-rt-polarity", 0.3)):
        tern, decoded = folder / f"{name}.tern", folder / name
        compress_adapter(examples / name, tern, method=Compeft(density=density))
        decompress(tern, decoded)
        found.append((tern, decoded))
    return found


@pytest.mark.parametrize("method", ["linear", "ties", "knots", "tsv", "dare_linear", "lego"])
def test_it_is_as_if_they_had_been_decoded(
    packed: list[tuple[Path, Path]], tmp_path: Path, method: str
) -> None:
    for number, folder in enumerate((tmp_path / "masks", tmp_path / "decoded")):
        merge_adapters([WeightedAdapter(pair[number]) for pair in packed], folder, Recipe(method))
    masks, decoded = (tmp_path / name / WEIGHTS for name in ("masks", "decoded"))
    assert masks.read_bytes() == decoded.read_bytes()


@pytest.mark.parametrize(
    ("method", "density", "from_masks"),
    [
        ("linear-factors", None, True),
        ("ties-factors", 1.0, True),
        ("ties-factors", 0.05, False),
        ("breadcrumbs-factors", 0.9, False),
    ],
)
def test_sums_and_elections_count_bits(
    packed: list[tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    *,
    density: float | None,
    from_masks: bool,
) -> None:
    sums: list[str] = []
    real: dict[str, Callable[..., Any]] = {"linear_sum": linear_sum, "ties": ties}

    def counted(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            sums.append(name)
            return real[name](*given, **more)

        return call

    for name in real:
        monkeypatch.setattr(factor_space, name, counted(name))
    options = {} if density is None else {"density": density}
    recipe = Recipe(method, options=options)
    before = 0
    for number, folder in enumerate((tmp_path / "masks", tmp_path / "decoded")):
        inputs = [
            WeightedAdapter(pair[number], w) for pair, w in zip(packed, (1.5, -0.4), strict=True)
        ]
        merge_adapters(inputs, folder, recipe)
        assert bool(sums) == from_masks
        if number:
            assert len(sums) == before, "decoded adapters have no masks"
        before = len(sums)
    masks, decoded = (load_file(tmp_path / name / WEIGHTS) for name in ("masks", "decoded"))
    for name, values in decoded.items():
        np.testing.assert_allclose(masks[name], values, rtol=2e-6, atol=1e-9)


def test_an_expert_reads_as_its_decoded_form(packed: list[tuple[Path, Path]]) -> None:
    tern, decoded = packed[0]
    with open_expert(tern) as compressed, open_expert(decoded) as plain:
        assert compressed.modules == plain.modules
        assert compressed.full_tensors == plain.full_tensors
        assert compressed.config == plain.config
        for name in compressed.modules:
            np.testing.assert_array_equal(compressed.factors(name).a, plain.factors(name).a)
            np.testing.assert_array_equal(compressed.factors(name).b, plain.factors(name).b)
            assert compressed.factors(name).ternary is not None
            assert plain.factors(name).ternary is None
        for name in compressed.full_tensors:
            np.testing.assert_array_equal(compressed.tensor(name), plain.tensor(name))
        assert compressed.weights_sha256() != plain.weights_sha256()


def test_a_damaged_file_is_named(packed: list[tuple[Path, Path]], tmp_path: Path) -> None:
    broken = tmp_path / "broken.tern"
    data = bytearray(packed[0][0].read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    with pytest.raises((TernError, IncompatibleError)) as caught:
        merge_adapters([WeightedAdapter(broken)], tmp_path / "out", Recipe())
    assert isinstance(caught.value, TernError | IncompatibleError)
    assert "broken.tern" in caught.value.file
    assert not (tmp_path / "out").exists()


def test_layers_must_be_decoded_first(examples: Path, tmp_path: Path) -> None:
    tern = tmp_path / "layers.tern"
    compress_adapter(examples / "sst2", tern, method=Rd(bits=1.0))
    with pytest.raises(IncompatibleError, match="tensor by tensor") as caught:
        merge_adapters([WeightedAdapter(tern)], tmp_path / "out", Recipe())
    assert (caught.value.actual, caught.value.hint) == ("rd", "decompress it first")
    assert not (tmp_path / "out").exists()
