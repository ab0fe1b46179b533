"""Merge on the command line: folders without a hub, revisions with one, and as jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import load_file

from merge import METHODS
from tests.api.test_cli_jobs import ended
from tests.command_line import CommandLine
from tests.live_hub import LiveHub, start_hub

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Give a hub that runs jobs."""
    with start_hub(tmp_path_factory.mktemp("hub"), job_slots=1, job_grace_s=2) as live:
        yield live
        live.stop()


@pytest.fixture
def pair(examples: Path) -> tuple[Path, Path]:
    return examples / "sst2", examples / "mr-rt-polarity"


def deltas(folder: Path) -> dict[str, Any]:
    """Return every module's ΔW of a PEFT folder whose scale is the same everywhere."""
    config = json.loads((folder / CONFIG).read_text())
    assert not config.get("use_rslora")
    tensors = load_file(folder / WEIGHTS)
    found = {}
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            b = tensors[f"{module}.lora_B.weight"].astype(np.float64)
            path = module.removeprefix("base_model.model.")
            rank = config.get("rank_pattern", {}).get(path, config["r"])
            alpha = config.get("alpha_pattern", {}).get(path, config["lora_alpha"])
            found[module] = alpha / rank * b @ a.astype(np.float64)
    return found


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_merges_folders_without_a_hub(
    cli: CommandLine, pair: tuple[Path, Path], method: str
) -> None:
    told = cli.json("merge", *pair, "--method", method, "--to", "out", "--heads", "first")
    assert (told["method"], told["modules"]) == (method, 18)
    assert told["weights"] == list(METHODS[method].weights(None, 2))
    found = deltas(Path("out"))
    assert all(np.isfinite(delta).all() and delta.any() for delta in found.values())
    recipe = json.loads((Path("out") / "merge_recipe.json").read_text())
    assert recipe["method"] == method
    assert [item["name"] for item in recipe["inputs"]] == ["sst2", "mr-rt-polarity"]
    assert recipe["space"] == METHODS[method].space
    assert all(recipe[name] is not None for name in METHODS[method].options)


def test_the_list_shows_every_method_with_its_paper(cli: CommandLine) -> None:
    shown = cli("merge", "--list").out
    for row in METHODS.values():
        line = next(line for line in shown.splitlines() if line.split()[:1] == [row.name])
        assert row.paper in line
        assert all(name in line for name in row.options)


def test_energy_gives_each_module_its_own_rank(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    whole = cli.json("merge", *pair, "--to", "whole")
    told = cli.json("merge", *pair, "--energy", "0.9", "--to", "less")
    assert told["rank"] < whole["rank"]
    assert 0 < told["error"] ** 2 <= 0.1
    config = json.loads((Path("less") / CONFIG).read_text())
    assert config["rank_pattern"] == config["alpha_pattern"]
    assert config["rank_pattern"]
    before, after = deltas(Path("whole")), deltas(Path("less"))
    for module, delta in before.items():
        kept = 1 - np.linalg.norm(delta - after[module]) ** 2 / np.linalg.norm(delta) ** 2
        assert kept >= 0.9 - 1e-6
        rank = config["rank_pattern"].get(module.removeprefix("base_model.model."), config["r"])
        sizes = np.linalg.svd(delta, compute_uv=False) ** 2
        assert sizes[: rank - 1].sum() < 0.9 * sizes.sum(), "one direction fewer would not do"


def test_a_compressed_adapter_is_decoded_on_the_way(
    cli: CommandLine, pair: tuple[Path, Path]
) -> None:
    cli("compress", pair[0], "--to", "one.tern")
    cli("compress", pair[1], "--to", "./two")
    cli("decompress", "one.tern", "--to", "first")
    cli("decompress", "two", "--to", "second")
    cli("merge", "one.tern", "./two", "--to", "packed")
    cli("merge", "./first", "./second", "--to", "plain")
    assert (Path("packed") / WEIGHTS).read_bytes() == (Path("plain") / WEIGHTS).read_bytes()


def test_bases_of_other_names_need_a_reason(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    shutil.copytree(pair[1], "other")
    config = json.loads((Path("other") / CONFIG).read_text())
    config["base_model_name_or_path"] = "org/a-copy-of-it"
    (Path("other") / CONFIG).write_text(json.dumps(config))
    refused = cli("merge", pair[0], "./other", "--to", "out", code=1)
    assert "a-copy-of-it" in refused.err
    assert "--same-base" in refused.err
    cli("merge", pair[0], "./other", "--same-base", "a renamed copy", "--to", "out")
    recipe = json.loads((Path("out") / "merge_recipe.json").read_text())
    assert recipe["base_override"] == "a renamed copy"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--method", "tiess"], "no method tiess"),
        (["--method", "tsv", "--density", "0.5"], "tsv does not take density"),
        (["--density", "0.5"], "linear does not take density"),
        (["--method", "ties", "--density", "0"], "(0, 1]"),
        (["--method", "ties", "--density", "nan"], "(0, 1]"),
        (["--method", "cat", "--rank", "4"], "cat does not take rank"),
        (["--method", "lego", "--energy", "0.9"], "lego does not take energy"),
        (["--method", "della", "--density", "0.05"], "density − epsilon"),
        (["--method", "core", "--inner", "svd"], "no such inner method"),
        (["--method", "knots", "--inner", "tsv"], "cannot do tsv inside"),
        (["--method", "core", "--inner", "iso", "--density", "0.1"], "core does not take density"),
        (["--method", "ema", "-w", "1", "-w", "1"], "finds the weights itself"),
        (["--method", "slerp", "-w", "-1", "-w", "2"], "at least 0"),
        (["--method", "wudi", "--steps", "-1"], "steps is out of its range"),
        (["--rank", "0"], "at least 1"),
        (["--energy", "1.5"], "(0, 1]"),
        (["-w", "1"], "as many --weight"),
        (["-w", "nan", "-w", "1"], "not a finite number"),
        (["--scale", "inf"], "scale is out of its range"),
        (["--history", "2"], "--history takes one branch"),
    ],
)
def test_what_does_not_fit_is_told(
    cli: CommandLine, pair: tuple[Path, Path], options: list[str], told: str
) -> None:
    refused = cli("merge", *pair, *options, "--to", "out", code=2)
    assert told in refused.err
    assert not Path("out").exists()


def test_three_adapters_have_no_one_circle(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    refused = cli("merge", *pair, pair[0], "--method", "slerp", "--to", "out", code=2)
    assert "multislerp" in refused.err


def test_a_result_that_does_not_fit_its_type_is_refused(
    cli: CommandLine, pair: tuple[Path, Path]
) -> None:
    refused = cli("merge", *pair, "--scale", "1e12", "--dtype", "float16", "--to", "out", code=1)
    assert "--dtype float32" in refused.err
    assert not Path("out").exists()


def test_conflicts_are_told_and_drawn(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    told = cli.json("merge", *pair, "--conflicts", "--plot", "where.svg", "--to", "out")
    found = told["conflicts"]
    assert len(found["modules"]) == 18
    assert all(0.5 <= module["sign_agreement"] <= 1 for module in found["modules"])
    assert Path("where.svg").read_text().startswith("<?xml")
    shown = cli("merge", *pair, "--conflicts", "--method", "ties", "--to", "again").out
    for part in ("sign agreement", "interference", "norm kept", "the worst 10 of 18 modules"):
        assert part in shown
    refused = cli("merge", *pair, "--plot", "where.jpg", "--to", "third", code=2)
    assert ".png" in refused.err
    refused = cli("merge", *pair, "--plot", "nowhere/c.svg", "--to", "third", code=1)
    assert "nowhere" in refused.err
    assert not Path("third").exists()


def test_an_average_over_a_branch(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    pushed = [cli.json("push", folder, "team/chain")["digest"] for folder in (*pair, pair[0])]
    told = cli.json(
        "merge",
        "team/chain",
        "--history",
        "2",
        "--method",
        "ema",
        "--decay",
        "0.75",
        "--as",
        "team/ema",
    )
    assert told["modules"] == 18
    edges = cli.json("show", "team/ema")["manifest"]["lineage"]
    assert [edge["revision"] for edge in edges] == pushed[1:]
    assert edges[0]["parameters"]["decay"] == 0.75
    cli("pull", "team/ema", "--to", "ema")
    before, last = deltas(pair[1]), deltas(pair[0])
    for module, delta in deltas(Path("ema")).items():
        expected = 0.75 * before[module] + 0.25 * last[module]
        np.testing.assert_allclose(delta, expected, rtol=1e-4, atol=1e-7)


def test_the_hub_knows_two_names_of_one_base(
    cli: CommandLine, http: httpx2.Client, pair: tuple[Path, Path]
) -> None:
    shutil.copytree(pair[1], "other")
    config = json.loads((Path("other") / CONFIG).read_text())
    config["base_model_name_or_path"] = "org/our-encoder"
    (Path("other") / CONFIG).write_text(json.dumps(config))
    cli("push", pair[0], "team/one")
    base = cli.json("show", "team/one")["manifest"]["base_model"]
    cli("merge", "team/one", "./other", "--to", "refused", code=1)
    told = http.post("/base-models", json={"name": base, "aliases": ["org/our-encoder"]})
    assert told.status_code == 201, told.text
    cli("merge", "team/one", "./other", "--to", "out")
    assert len(deltas(Path("out"))) == 18


def test_a_job_makes_what_the_command_makes(cli: CommandLine, pair: tuple[Path, Path]) -> None:
    for folder, name in zip(pair, ("team/a", "team/b"), strict=True):
        cli("push", folder, name)
    asked = ("team/a", "team/b", "--method", "ties", "--density", "0.3", "--rank", "8")
    job = cli.json("merge", *asked, "--conflicts", "--as", "team/by-job", "--job")
    here = cli.json("merge", *asked, "--as", "team/here")
    done = ended(cli, job["id"])
    assert done["state"] == "succeeded", done["error"]
    manifests = [cli.json("show", name)["manifest"] for name in ("team/by-job", "team/here")]
    files = [{f["path"]: f["digest"] for f in m["files"]} for m in manifests]
    assert files[0] == files[1]
    assert manifests[0]["lineage"] == manifests[1]["lineage"]
    assert manifests[0]["lineage"][0]["parameters"]["density"] == 0.3
    assert here["rank"] == 8
    found = cli.json("jobs", "show", job["id"])["outcome"]["conflicts"]
    assert 0.5 < found["sign_agreement"] < 1
    assert len(found["modules"]) == 18
    refused = cli("merge", *asked, "--gamma", "0.1", "--as", "team/x", "--job", code=2)
    assert "ties does not take gamma" in refused.err
