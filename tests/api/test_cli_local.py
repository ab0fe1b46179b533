"""Run the commands that need no hub on real folders and files, with no hub to reach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.command_line import CommandLine, command_line

WEIGHTS = "adapter_model.safetensors"
COMPEFT = ("--method", "compeft")


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with command_line(capsys, tmp_path, "http://127.0.0.1:9") as line:
        yield line


@pytest.fixture
def sst2(examples: Path) -> Path:
    return examples / "sst2"


@pytest.mark.parametrize("target", ["small.tern", "./folder"])
def test_there_and_back(cli: CommandLine, sst2: Path, target: str) -> None:
    told = cli.json("compress", sst2, "--to", target, "--bits", "0.5")
    assert told["result"] == target.removeprefix("./")
    assert told["digest"] is None
    assert {
        "method",
        "settings",
        "layers",
        "heads",
        "error_bound",
        "ratio",
        "bits_per_param",
    } <= set(told)
    assert {"delta_error", "erased", "modules", "size", "warnings", "exact_tensors"} <= set(told)
    back = cli.json("decompress", target, "--to", "back")
    assert WEIGHTS in back["files"]
    original, decoded = load_file(sst2 / WEIGHTS), load_file(Path("back") / WEIGHTS)
    assert original.keys() == decoded.keys()
    for name, values in original.items():
        if "lora" not in name:
            assert (decoded[name] == values).all()
    config = "adapter_config.json"
    assert (Path("back") / config).read_bytes() == (sst2 / config).read_bytes()


def test_text_tells_sizes_and_errors(cli: CommandLine, sst2: Path) -> None:
    ran = cli("compress", sst2, "--to", "small.tern", *COMPEFT, "--density", "0.5")
    for part in ("compeft, density 0.5", "ratio", "bits per parameter", "error of ΔW", "2 tensors"):
        assert part in ran.out
    assert ran.out.splitlines()[-1] == "small.tern"
    assert ran.err == ""


def test_scopes_differ(cli: CommandLine, sst2: Path) -> None:
    errors = {
        scope: cli.json("compress", sst2, "--to", f"{scope}.tern", *COMPEFT, "--scope", scope)[
            "delta_error"
        ]
        for scope in ("global", "factor", "tensor")
    }
    assert len(set(errors.values())) == 3
    assert errors["global"] > errors["factor"]


def test_exact_count_keeps_one_less(cli: CommandLine, sst2: Path) -> None:
    published = cli.json("compress", sst2, "--to", "a.tern", *COMPEFT)
    exact = cli.json("compress", sst2, "--to", "b.tern", *COMPEFT, "--exact-count")
    assert exact["nonzero"] == int(0.2 * exact["parameters"])
    assert published["nonzero"] == exact["nonzero"] + 1


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ([*COMPEFT, "--density", "0"], 2, "(0, 1]"),
        ([*COMPEFT, "--density", "1.5"], 2, "(0, 1]"),
        ([*COMPEFT, "--density", "nan"], 2, "(0, 1]"),
        ([*COMPEFT, "--alpha", "-1"], 2, "above 0"),
        (["--scope", "row"], 2, "'row' is not one of"),
        (["--method", "magic"], 2, "'magic' is not"),
        (["--density", "0.5"], 2, "--density belongs to the method compeft, and this is rd"),
        ([*COMPEFT, "--bits", "1"], 2, "--bits belongs to the method rd, and this is compeft"),
        (["--lossless", "--bits", "1"], 2, "--bits belongs to the method rd, and this is lossless"),
        (["--lossless", *COMPEFT], 2, "--lossless is a method of its own"),
        (["--bits", "1", "--max-error", "0.3"], 2, "--bits and --max-error exclude each other"),
        (["--bits", "0"], 2, "0.001 to 8"),
        (["--max-error", "1"], 2, "a share in (0, 1)"),
        (["--gain", "loud"], 2, "none of none, norm, tune and a number"),
        (["--gain", "nan"], 2, "none of none, norm, tune and a number"),
        (["--gain", "tune"], 2, "--gain tune needs --validation FILE.jsonl and --base-model"),
        (["--base-model", "."], 2, "are for --gain tune"),
        (["--heads", "int2"], 2, "'int2' is not one of"),
        (["--base", "./nowhere"], 1, "nowhere"),
    ],
)
def test_options_out_of_range_are_named(
    cli: CommandLine, sst2: Path, options: list[str], code: int, told: str
) -> None:
    ran = cli("compress", sst2, "--to", "x.tern", *options, code=code)
    assert told in ran.err
    assert not Path("x.tern").exists()


def test_erased_modules_are_loud_and_in_json(cli: CommandLine, sst2: Path) -> None:
    ran = cli("compress", sst2, "--to", "tiny.tern", *COMPEFT, "--density", "0.05", "--json")
    assert len(json.loads(ran.out)["erased"]) == 18
    assert "ERASED" in ran.err
    told = cli.json("inspect", "tiny.tern", "--against", sst2)
    assert len(told["erased"]) == 18
    assert all(module["erased"] for module in told["modules"])


def test_inspect_shows_each_module(cli: CommandLine, sst2: Path) -> None:
    told = cli.json("inspect", sst2)
    assert told["path"] == str(sst2)
    assert told["encoding"] == "peft"
    assert len(told["modules"]) == 18
    assert told["modules"][0]["rank"] == 8
    text = cli("inspect", sst2).out
    assert "layer.5.attention.self.value" in text
    cli("compress", sst2, "--to", "small.tern", *COMPEFT, "--density", "0.5")
    told = cli.json("inspect", "small.tern", "--against", sst2)
    assert 0.5 < told["delta_error"] < 0.7
    assert "compeft" in cli("inspect", "small.tern").out


def test_a_damaged_file_is_refused(cli: CommandLine, sst2: Path) -> None:
    cli("compress", sst2, "--to", "small.tern")
    data = bytearray(Path("small.tern").read_bytes())
    data[len(data) // 2] ^= 1
    Path("small.tern").write_bytes(data)
    for arguments in (("inspect", "small.tern"), ("decompress", "small.tern", "--to", "back")):
        ran = cli(*arguments, code=1)
        assert ran.err.startswith("error: ")
        assert "Traceback" not in ran.err
    assert not Path("back").exists()


def test_a_taken_place_is_left_alone(cli: CommandLine, sst2: Path) -> None:
    cli("compress", sst2, "--to", "small.tern")
    Path("back").mkdir()
    Path("back/mine.txt").write_text("mine")
    assert "taken" in cli("decompress", "small.tern", "--to", "back", code=1).err
    assert [path.name for path in Path("back").iterdir()] == ["mine.txt"]


def test_a_pickle_is_never_opened(cli: CommandLine, test_data: Path) -> None:
    odd = test_data / "odd" / "pickle-bin-old-peft-enable-lora"
    assert "pickle" in cli("inspect", odd, code=1).err
    assert "safetensors" in cli("verify", odd, code=1).err


def test_diff_of_two_folders(cli: CommandLine, sst2: Path, examples: Path) -> None:
    told = cli.json("diff", sst2, examples / "mr-rt-polarity", "--weights")
    assert not told["same"]
    assert WEIGHTS in told["changed"]
    assert len(told["modules"]) == 18
    assert all(module["error"] > 0.1 for module in told["modules"])
    same = cli.json("diff", sst2, sst2, "--weights")
    assert same["same"]
    assert all(module["error"] < 1e-6 for module in same["modules"])
    assert "no difference" in cli("diff", sst2, sst2).err


def test_verify_checks_as_a_push_would(cli: CommandLine, sst2: Path) -> None:
    assert cli.json("verify", sst2)["ok"]
    shutil.copytree(sst2, "broken")
    weights = Path("broken") / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    assert WEIGHTS in cli("verify", "./broken", code=1).err
    cli("compress", sst2, "--to", "./packed")
    assert cli.json("verify", "./packed")["ok"]


def test_merging_two_folders(cli: CommandLine, sst2: Path, examples: Path) -> None:
    told = cli.json("merge", sst2, examples / "mr-rt-polarity", "--to", "both")
    assert (told["modules"], told["rank"], told["full_tensors"]) == (18, 16, 2)
    low = cli.json("merge", sst2, examples / "mr-rt-polarity", "--rank", "4", "--to", "low")
    assert low["rank"] == 4
    assert 0 < low["error"] < 1
    alone = cli("merge", sst2, "-w", "1", "--to", "alone")
    assert "nothing was cut" in alone.out
    assert cli.json("diff", sst2, "./alone", "--weights")["modules"][0]["error"] < 1e-6


def test_a_full_fine_tune_is_a_residual(cli: CommandLine, sst2: Path) -> None:
    weights = load_file(sst2 / WEIGHTS)
    tensors = {f"layer.{i}.weight": values for i, values in enumerate(weights.values())}
    Path("base").mkdir()
    Path("tuned").mkdir()
    save_file(tensors, "base/model.safetensors")
    save_file({k: v * 1.01 for k, v in tensors.items()}, "tuned/model.safetensors")
    ran = cli("compress", "./tuned", "--base", "base", "--to", "delta.tern", "--density", "1")
    assert "compeft it is" in ran.err
    assert cli("decompress", "delta.tern", "--to", "back", code=1).err
    cli("decompress", "delta.tern", "--to", "back", "--base", "base")
    decoded = load_file(next(Path("back").glob("*.safetensors")))
    assert decoded.keys() == tensors.keys()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: CommandLine, shell: str) -> None:
    assert "_ADAPTERS_COMPLETE" in cli("completion", shell).out
    assert cli.json("completion", shell)["shell"] == shell
