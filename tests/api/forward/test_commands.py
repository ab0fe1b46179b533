"""Run a tiny model from the command line: calibrate, evaluate, tune a gain, search weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from api.forward.evaluate import evaluate
from api.forward.rows import read_rows
from tests.command_line import CommandLine, command_line

Make = Callable[..., Path]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with command_line(capsys, tmp_path, "http://127.0.0.1:9") as line:
        yield line


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    texts = ["zero one", "two three four", "five", "six seven zero", "one one two", "three"]
    lines = [json.dumps({"text": t, "label": "abc"[n % 3]}) for n, t in enumerate(texts * 2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path / "rows.jsonl"


def test_an_adapter_is_judged_compressed_or_not(
    cli: CommandLine, make_expert: Make, encoder: Path, rows: Path
) -> None:
    expert = make_expert()
    told = cli.json("evaluate", expert, "--base-model", encoder, "--rows", rows)
    direct = evaluate(encoder, expert, read_rows(rows))
    assert (told["rows"], told["accuracy"], told["loss"]) == (12, direct.accuracy, direct.loss)
    cli("compress", expert, "--lossless", "--to", "l.tern")
    again = cli.json("evaluate", "l.tern", "--base-model", encoder, "--rows", rows)
    assert (again["accuracy"], again["loss"]) == (told["accuracy"], told["loss"])
    assert (
        f"{direct.loss:.4f}" in cli("evaluate", expert, "--base-model", encoder, "--rows", rows).out
    )


@pytest.mark.parametrize("options", [[], ["--full"]])
def test_what_calibrating_writes_weights_the_error(
    cli: CommandLine, make_expert: Make, encoder: Path, rows: Path, options: list[str]
) -> None:
    expert = make_expert(r=8)
    told = cli.json(
        "calibrate",
        *(expert, "--base-model", encoder, "--texts", rows, "--to", "m.safetensors"),
        *("--rows", "5", *options),
    )
    assert (told["rows"], told["modules"]) == (5, 4)
    shapes = {values.shape for values in load_file("m.safetensors").values()}
    assert shapes == ({(16, 16)} if options else {(16,)})
    plain = cli.json("compress", expert, "--bits", "6", "--to", "a.tern")
    weighted = cli.json(
        "compress", expert, "--bits", "6", "--calibrate", "m.safetensors", "--to", "b.tern"
    )
    assert weighted["settings"]["calibrated"] == "true"
    assert weighted["delta_error"] != plain["delta_error"]


def test_a_gain_is_tuned_on_rows(
    cli: CommandLine, make_expert: Make, encoder: Path, rows: Path
) -> None:
    expert = make_expert(r=8)
    tune = ("--gain", "tune", "--validation", rows, "--base-model", encoder)
    told = cli.json("compress", expert, "--bits", "6", *tune, "--to", "a.tern")
    curve = told["gain_curve"]
    best = min(curve["points"], key=lambda point: point["loss"])
    assert float(told["settings"].get("gain", "1")) == pytest.approx(best["gain"])
    assert curve["rows"] == 12
    cli("compress", expert, "--bits", "6", "--gain", best["gain"], "--to", "b.tern")
    assert Path("a.tern").read_bytes() == Path("b.tern").read_bytes()
    assert "is best of" in cli("compress", expert, "--bits", "6", *tune, "--to", "c.tern").err


def test_weights_of_a_merge_are_searched_on_rows(
    cli: CommandLine, make_expert: Make, encoder: Path, rows: Path
) -> None:
    pair = [make_expert(name=name, seed=at, factor=0.6) for at, name in enumerate(("one", "two"))]
    how = ("--heads", "first", "--search", rows, "--base-model", encoder, "--search-steps", "9")
    told = cli.json("merge", *pair, *how, "--to", "found")
    search = told["search"]
    assert told["weights"] == search["weights"] == search["after"]["weights"]
    assert search["before"]["weights"] == [0.5, 0.5]
    assert (search["rows"], len(search["curve"])) == (12, 9)
    judged = evaluate(encoder, Path("found"), read_rows(rows))
    assert judged.loss == pytest.approx(search["after"]["loss"], rel=1e-6)
    weights = [flag for weight in search["weights"] for flag in ("-w", weight)]
    cli("merge", *pair, *weights, "--heads", "first", "--to", "said")
    name = "adapter_model.safetensors"
    assert Path("found", name).read_bytes() == Path("said", name).read_bytes()
    usual = how[2:]  # without --heads the head is that of the first as well: rows are of one task
    assert "accuracy" in cli("merge", *pair, *usual, "--to", "again").out
    assert Path("found", name).read_bytes() == Path("again", name).read_bytes()


def test_a_search_that_cannot_be_made_is_refused(
    cli: CommandLine, make_expert: Make, encoder: Path, rows: Path
) -> None:
    expert = make_expert()
    search = ("--search", rows, "--base-model", encoder)
    for options, code, why in (
        ((*search, "--heads", "average"), 2, "--heads first"),
        ((*search, "--heads", "first", "--search-steps", "0"), 2, "1 or more"),
        (("--search", rows), 2, "needs --base-model"),
        (("--search-seed", "3"), 2, "for --search"),
        ((*search, "--heads", "first", "--method", "ema"), 2, "finds the weights itself"),
    ):
        assert why in cli("merge", expert, expert, *options, "--to", "out", code=code).err
    assert not Path("out").exists()


def test_rows_that_do_not_fit_are_refused(
    cli: CommandLine, make_expert: Make, encoder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"words": 1}\n')
    expert = make_expert()
    for line in (
        ("evaluate", expert, "--base-model", encoder, "--rows", bad),
        ("calibrate", expert, "--base-model", encoder, "--texts", bad, "--to", "m.safetensors"),
    ):
        ran = cli(*line, code=1)
        assert ran.err.startswith("error: ")
    assert not Path("m.safetensors").exists()
