"""Test that a model filled in memory computes what it computes with a merged folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from api.forward.deltas import DeltaSlots
from api.forward.evaluate import encode, evaluate, score
from api.forward.models import LoadedModel, load
from api.forward.rows import Completion, Labelled, Row
from compress.errors import BaseMismatchError, OptionError
from merge import HeadPolicy, Recipe, WeightedAdapter, merge_adapters
from merge.delta_space import Delta
from merge.expert import open_expert
from merge.merging import merged_modules

MakeAdapter = Callable[..., Path]
ROWS: list[Row] = [
    Labelled(text, "abc"[at % 3])
    for at, text in enumerate(("zero", "one two", "three four five", "seven", "two two"))
]


def in_memory(
    loaded: LoadedModel, folders: Sequence[Path], weights: Sequence[float], recipe: Recipe
) -> None:
    """Put a merge of adapters into a model."""
    with ExitStack() as stack:
        experts = [stack.enter_context(open_expert(folder)) for folder in folders]
        modules = merged_modules(experts, weights, recipe)
        DeltaSlots(loaded).fill((module.name, module.delta) for module in modules)


def on_disk(
    folders: Sequence[Path], weights: Sequence[float], recipe: Recipe, folder: Path
) -> Path:
    """Write the same merge."""
    inputs = [WeightedAdapter(f, w) for f, w in zip(folders, weights, strict=True)]
    merge_adapters(inputs, folder, recipe)
    return folder


def as_type(folder: Path, dtype: torch.dtype) -> Path:
    """Store the factors of an adapter in another type."""
    path = folder / "adapter_model.safetensors"
    tensors = {k: v.to(dtype) if "lora_" in k else v for k, v in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    return folder


@pytest.fixture
def folders(make_expert: MakeAdapter) -> list[Path]:
    """Give experts of different ranks, scales and modules."""
    return [
        make_expert(name="one", seed=1, factor=0.6),
        make_expert(name="two", seed=2, factor=0.6, r=5, lora_alpha=3, use_rslora=True),
        make_expert(name="three", seed=3, target_modules=["query", "dense"]),
    ]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(heads=HeadPolicy.FIRST),
        Recipe(rank=3, heads=HeadPolicy.FIRST),
        Recipe(energy=0.7, heads=HeadPolicy.FIRST),
        Recipe("ties", heads=HeadPolicy.FIRST),
        Recipe("dare_linear", {"seed": 3}, heads=HeadPolicy.FIRST),
        Recipe("core", heads=HeadPolicy.FIRST),
        Recipe(heads=HeadPolicy.FIRST, dtype="float16"),
    ],
    ids=["linear", "rank", "energy", "ties", "dare", "core", "float16"],
)
def test_the_model_is_that_of_the_merged_folder(
    encoder: Path, folders: list[Path], tmp_path: Path, recipe: Recipe
) -> None:
    start = Recipe(rank=1, heads=HeadPolicy.FIRST, dtype=recipe.dtype)
    loaded = load(encoder, on_disk(folders, (1.0, 1.0, 1.0), start, tmp_path / "start"))
    batches = encode(loaded, ROWS)
    for at, weights in enumerate([(0.4, -0.3, 1.1), (0.0, 1.0, 0.5)]):
        in_memory(loaded, folders, weights, recipe)
        written = on_disk(folders, weights, recipe, tmp_path / f"merged{at}")
        expected = evaluate(encoder, written, ROWS)
        assert score(loaded, batches).loss == pytest.approx(expected.loss, rel=1e-6)


def test_values_are_rounded_as_a_folder_rounds_them(
    encoder: Path, make_expert: MakeAdapter, tmp_path: Path
) -> None:
    folders = [as_type(make_expert(name=n, factor=0.6), torch.bfloat16) for n in ("one", "two")]
    recipe = Recipe(heads=HeadPolicy.FIRST)
    written = on_disk(folders, (0.3, 0.7), recipe, tmp_path / "merged")
    loaded = load(encoder, on_disk(folders, (1, 1), recipe, tmp_path / "start"))
    in_memory(loaded, folders, (0.3, 0.7), recipe)
    assert score(loaded, encode(loaded, ROWS)) == evaluate(encoder, written, ROWS)


def test_embeddings_of_a_causal_model_are_filled(causal: Path, causal_adapter: Path) -> None:
    rows = [Completion("one two", "three"), Completion("four", "five six")]
    loaded = load(causal, causal_adapter)
    batches = encode(loaded, rows)
    whole = score(loaded, batches)
    in_memory(loaded, [causal_adapter], (0.0,), Recipe())
    assert score(loaded, batches) == evaluate(causal, None, rows)
    in_memory(loaded, [causal_adapter], (1.0,), Recipe())
    assert score(loaded, batches).loss == pytest.approx(whole.loss, rel=1e-6)


def test_a_module_that_does_not_come_is_the_base_alone(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert(factor=0.6)
    loaded = load(encoder, folder)
    batches = encode(loaded, ROWS)
    in_memory(loaded, [folder], (0.0,), Recipe())
    base = score(loaded, batches)
    in_memory(loaded, [folder], (1.0,), Recipe())
    assert score(loaded, batches) != base
    DeltaSlots(loaded).fill([])
    assert score(loaded, batches) == base
    in_memory(loaded, [folder], (0.0,), Recipe("svd"))
    assert score(loaded, batches) == base


def test_a_module_without_a_place_or_of_another_shape_is_refused(
    encoder: Path, make_expert: MakeAdapter
) -> None:
    folder = make_expert()
    slots = DeltaSlots(load(encoder, folder))
    with open_expert(folder) as expert:
        name = min(expert.modules)
        delta = expert.delta(name)
    with pytest.raises(BaseMismatchError, match="no place"):
        slots.fill([("somewhere", delta)])
    with pytest.raises(BaseMismatchError, match="no place"):
        slots.fill([(name, delta), (name, delta)])
    with pytest.raises(BaseMismatchError, match="another shape"):
        slots.fill([(name, Delta(np.zeros((2, 3)), delta.b))])
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2


def test_a_model_without_an_adapter_has_no_slots(causal: Path) -> None:
    with pytest.raises(OptionError, match="no LoRA modules"):
        DeltaSlots(load(causal))
