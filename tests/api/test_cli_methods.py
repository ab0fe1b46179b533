"""Choose methods and rates on the command line, and read what they cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.command_line import CommandLine

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def sst2(examples: Path) -> Path:
    return examples / "sst2"


def test_the_default_is_rd_at_half_a_bit(cli: CommandLine, sst2: Path) -> None:
    told = cli.json("compress", sst2, "--to", "a.tern")
    assert told["method"] == "rd"
    assert told["settings"]["bits"] == "0.5"
    assert told["bits_per_param"] <= 0.5
    assert told["bound_ratio"] == pytest.approx(told["delta_error"] / told["error_bound"])
    assert 1 < told["bound_ratio"] < 1.2
    assert told["layers"][-1]["error"] == pytest.approx(told["delta_error"], rel=1e-6)
    assert told["size"]["lossy"] + told["size"]["exact"] == Path("a.tern").stat().st_size
    text = cli("compress", sst2, "--to", "b.tern")
    assert Path("a.tern").read_bytes() == Path("b.tern").read_bytes()
    for part in (
        "rd, bits 0.5",
        "× of F32",
        "× the water-filling bound",
        "Shannon bound",
        "layers",
    ):
        assert part in text.out
    assert text.out.splitlines()[-1] == "b.tern"


def test_an_error_or_layers_may_be_asked_for(cli: CommandLine, sst2: Path) -> None:
    told = cli.json("compress", sst2, "--to", "a.tern", "--max-error", "0.4")
    assert 0.3 < told["delta_error"] <= 0.4
    told = cli.json("compress", sst2, "--to", "b.tern", "--layers", "2")
    assert len(told["layers"]) == 2


def test_a_gain_may_be_a_number_or_matched(cli: CommandLine, sst2: Path) -> None:
    plain = cli.json("compress", sst2, "--to", "a.tern", "--bits", "0.25")
    assert "gain" not in plain["settings"]
    norm = cli.json("compress", sst2, "--to", "b.tern", "--bits", "0.25", "--gain", "norm")
    assert float(norm["settings"]["gain"]) > 1
    set_to = cli.json("compress", sst2, "--to", "c.tern", "--bits", "0.25", "--gain", "1.25")
    assert set_to["settings"]["gain"] == "1.25"
    assert set_to["delta_error"] > plain["delta_error"]


def test_rounded_heads_report_what_they_cost(cli: CommandLine, tmp_path: Path, sst2: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    tensors = load_file(sst2 / WEIGHTS)
    head = "base_model.model.classifier.weight"
    assert head in tensors
    tensors[head] = np.random.default_rng(0).normal(size=(40, 384)).astype(np.float32)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    (folder / "adapter_config.json").write_bytes((sst2 / "adapter_config.json").read_bytes())
    told = cli.json("compress", folder, "--to", "a.tern", "--heads", "int8", "--bits", "1")
    (cost,) = told["heads"]
    assert (cost["name"], cost["source_bytes"]) == (head, 4 * 40 * 384)
    assert cost["bytes"] < cost["source_bytes"] / 3
    seen = cli.json("inspect", "a.tern", "--against", folder)
    assert seen["heads"][0]["bytes"] == cost["bytes"]
    assert seen["heads"][0]["error"] == pytest.approx(cost["error"], rel=1e-5)
    assert seen["size"]["heads"] == cost["bytes"]
    assert head not in seen["exact_tensors"]
    assert "1 rounded, 61.4 kB" in cli("inspect", "a.tern", "--against", folder).out
    cli("decompress", "a.tern", "--to", "back")
    decoded = load_file(Path("back") / WEIGHTS)[head]
    gap = np.linalg.norm(decoded - tensors[head]) / np.linalg.norm(tensors[head])
    assert cost["error"] == pytest.approx(gap, rel=1e-4)


def test_lossless_gives_every_bit_back(cli: CommandLine, sst2: Path) -> None:
    for options in (["--lossless"], ["--method", "lossless"]):
        name = f"{len(options)}.tern"
        told = cli.json("compress", sst2, "--to", name, *options)
        assert told["method"] == "lossless"
        cli("decompress", name, "--to", f"back{name}")
        found, wanted = load_file(f"back{name}/{WEIGHTS}"), load_file(sst2 / WEIGHTS)
        assert all((found[key] == values).all() for key, values in wanted.items())
    assert "every bit comes back" in cli("compress", sst2, "--lossless", "--to", "c.tern").out
    seen = cli.json("inspect", "c.tern", "--against", sst2)
    assert seen["delta_error"] == pytest.approx(0, abs=1e-7)
    assert seen["parameters"] == 110_592
    assert "everything" in cli("inspect", "c.tern").out


def test_inspect_shows_bounds_of_what_is_not_compressed(cli: CommandLine, sst2: Path) -> None:
    told = cli.json("inspect", sst2)
    assert told["stored_dtype"] == "F32"
    assert [point["bits_per_param"] for point in told["bounds"]] == [0.25, 0.5, 1.0, 2.0]
    # the known answers of the bound for this expert
    errors = [point["error"] for point in told["bounds"]]
    assert errors == pytest.approx([0.3898, 0.2605, 0.1635, 0.0799], abs=5e-5)
    assert "0.2605 at 0.5" in cli("inspect", sst2).out


def test_inspect_agrees_with_what_compressing_told(cli: CommandLine, sst2: Path) -> None:
    made = cli.json("compress", sst2, "--to", "a.tern", "--bits", "0.5")
    seen = cli.json("inspect", "a.tern", "--against", sst2)
    for key in ("delta_error", "error_bound", "bits_per_param", "parameters", "ratio"):
        assert seen[key] == pytest.approx(made[key], rel=1e-5), key
    assert seen["part_bytes"]["layers"] == made["layers"][-1]["bytes"]
    assert "× the water-filling bound" in cli("inspect", "a.tern", "--against", sst2).out
    alone = cli.json("inspect", "a.tern")
    assert (alone["error_bound"], alone["bounds"]) == (None, [])


def test_the_shannon_bound_is_that_of_the_trits(cli: CommandLine, sst2: Path) -> None:
    made = cli.json("compress", sst2, "--to", "a.tern", "--method", "compeft", "--density", "0.3")
    seen = cli.json("inspect", "a.tern")
    assert seen["shannon_bytes"] == pytest.approx(made["shannon_bytes"])
    share = seen["nonzero"] / seen["parameters"]
    least = -(share * np.log2(share / 2) + (1 - share) * np.log2(1 - share))
    assert seen["shannon_bytes"] * 8 / seen["parameters"] == pytest.approx(least, rel=1e-3)


def test_publishing_tells_method_settings_and_figures(cli: CommandLine, examples: Path) -> None:
    cli("push", examples / "sst2", "methods/sst2")
    for options, shown in (
        (["--bits", "0.5"], "rd at 0.49"),
        (["--lossless"], "lossless"),
        (["--method", "compeft", "--density", "0.5"], "compeft at density 0.5"),
    ):
        name = f"methods/{options[0].lstrip('-')}"
        cli("compress", "methods/sst2", "--as", name, *options)
        manifest = cli.json("show", name)["manifest"]
        assert shown in manifest["message"]
        assert manifest["lineage"][0]["parameters"]["method"] == shown.split()[0]
        assert len(manifest["config"]["kept_exactly"]) > 0
        assert cli.json("pull", name, "--to", name.replace("/", "-"))["decoded"]
        assert cli.json("verify", name)["ok"]
    assert "bits_per_param" not in cli.json("show", "methods/lossless")["manifest"]["metrics"]
    assert "without loss, 1.2×" in cli("show", "methods/lossless").out
    lossless = Path("methods-lossless", WEIGHTS).read_bytes()
    assert lossless == (examples / "sst2" / WEIGHTS).read_bytes()
