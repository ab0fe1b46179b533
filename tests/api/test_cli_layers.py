"""Pull, decompress and inspect files with layers: coarse adapters for a part of the bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from safetensors.numpy import load_file

from compress import Rd, compress_adapter, inspect
from compress.container_read import TernFile
from compress.inspection import bound_curve, measured_layers
from tests.command_line import CommandLine

WEIGHTS = "adapter_model.safetensors"
TERN = "adapter_model.tern.safetensors"


@pytest.fixture(scope="module")
def packed(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a compressed folder of a real expert, with companions and int8 heads' parts."""
    folder = tmp_path_factory.mktemp("packed") / "small"
    compress_adapter(examples / "sst2", folder, method=Rd(bits=0.5))
    return folder


@pytest.fixture
def pushed(cli: CommandLine, packed: Path) -> str:
    cli("push", packed, "layers/small")
    return "layers/small"


def end_of_layer(tern: Path, count: int) -> int:
    """Give where a layer ends in a file: all other parts stand before the layers."""
    with TernFile(tern) as file:
        assert file.index.layers is not None
        before = file.size_bytes - file.part_bytes["layers"]
        return before + sum(file.index.layers.sizes[:count])


@pytest.mark.parametrize("count", [1, 2])
def test_only_the_wanted_layers_come_over_the_wire(
    cli: CommandLine, packed: Path, pushed: str, count: int
) -> None:
    told = cli.json("pull", pushed, "--layers", count, "--to", "coarse")
    beside = sum(path.stat().st_size for path in packed.iterdir() if path.name != TERN)
    assert told["fetched_bytes"] == end_of_layer(packed / TERN, count) + beside
    assert told["fetched_bytes"] < told["whole_bytes"]
    assert (told["layers"], told["of_layers"]) == (count, 3)
    assert told["decoded"]
    cli("decompress", packed, "--layers", count, "--to", "here")
    for name in (WEIGHTS, "adapter_config.json", "README.md"):
        assert Path("coarse", name).read_bytes() == Path("here", name).read_bytes()


def test_a_part_is_not_mistaken_for_the_revision(cli: CommandLine, pushed: str) -> None:
    digest = cli.json("show", pushed)["digest"]
    told = cli.json("pull", pushed, "--layers", "1", "--to", "coarse")
    assert told["digest"] is None
    assert told["cut_from"] == digest
    text = cli("pull", pushed, "--layers", "1", "--to", "again")
    assert "first 1 of 3 layers" in text.err
    assert "not the whole of" in text.err


def test_errors_are_those_of_the_decoded_adapter(
    cli: CommandLine, examples: Path, pushed: str
) -> None:
    for count in (1, 2, 3):
        told = cli.json("pull", pushed, "--layers", count, "--to", f"c{count}")
        measured = inspect(Path(f"c{count}"), against=examples / "sst2").delta_error
        assert told["error"] == pytest.approx(measured, rel=1e-4)


def test_the_compressed_form_of_some_layers_is_a_file_of_its_own(
    cli: CommandLine, examples: Path, packed: Path, pushed: str
) -> None:
    told = cli.json("pull", pushed, "--layers", "2", "--encoding", "tern", "--to", "cut")
    assert not told["decoded"]
    assert (Path("cut") / TERN).stat().st_size < (packed / TERN).stat().st_size
    assert cli.json("verify", "./cut")["ok"]
    cli("decompress", "./cut", "--to", "one")
    cli("decompress", packed, "--layers", "2", "--to", "two")
    assert Path("one", WEIGHTS).read_bytes() == Path("two", WEIGHTS).read_bytes()
    seen = cli.json("inspect", "./cut", "--against", examples / "sst2")
    assert len(seen["layers"]) == 2
    assert seen["delta_error"] == pytest.approx(seen["layers"][1]["error"], rel=1e-4)
    whole = cli.json("push", "./cut", "layers/coarse")
    assert whole["digest"] != cli.json("show", pushed)["digest"]


def test_damage_in_what_comes_is_noticed(cli: CommandLine, packed: Path) -> None:
    shutil.copytree(packed, "bad")
    path = Path("bad") / TERN
    data = bytearray(path.read_bytes())
    data[end_of_layer(path, 1) - 1] ^= 1
    path.write_bytes(data)
    ran = cli("decompress", "bad", "--layers", "1", "--to", "x", code=1)
    assert "layer" in ran.err
    assert not Path("x").exists()


def test_more_layers_than_there_are(cli: CommandLine, packed: Path, pushed: str) -> None:
    for line in (("pull", pushed), ("decompress", packed)):
        ran = cli(*line, "--layers", "4", "--to", "x", code=1)
        assert "expected 1 to 3 layers, got 4" in ran.err
    assert cli("pull", pushed, "--layers", "0", code=2).err
    assert not Path("x").exists()


@pytest.mark.parametrize("options", [["--method", "compeft"], ["--lossless"]])
def test_what_has_no_layers_says_so(
    cli: CommandLine, examples: Path, options: list[str], request: pytest.FixtureRequest
) -> None:
    name = f"layers/{options[-1].lstrip('-')}"
    cli("compress", examples / "sst2", *options, "--to", "./plain")
    cli("push", "./plain", name)
    for line in (("pull", name), ("decompress", "./plain")):
        ran = cli(*line, "--layers", "1", "--to", "x", code=1)
        assert "expected the method rd" in ran.err
    assert not Path("x").exists()


def test_what_is_not_compressed_has_no_layers(cli: CommandLine, examples: Path) -> None:
    cli("push", examples / "sst2", "layers/plain")
    ran = cli("pull", "layers/plain", "--layers", "1", "--to", "x", code=1)
    assert "it is not compressed" in ran.err


def test_a_cut_file_decodes_as_far_as_it_goes(cli: CommandLine, packed: Path) -> None:
    data = (packed / TERN).read_bytes()
    Path("cut.tern").write_bytes(data[: end_of_layer(packed / TERN, 2) + 5])
    cli("decompress", "cut.tern", "--layers", "2", "--to", "two")
    cli("decompress", packed, "--layers", "2", "--to", "same")
    assert load_file("two/" + WEIGHTS).keys() == load_file("same/" + WEIGHTS).keys()
    assert Path("two", WEIGHTS).read_bytes() == Path("same", WEIGHTS).read_bytes()
    assert "fewer layers" in cli("decompress", "cut.tern", "--layers", "3", "--to", "x", code=1).err


def test_a_curve_is_drawn(cli: CommandLine, examples: Path, packed: Path) -> None:
    ran = cli("inspect", packed, "--against", examples / "sst2", "--plot", "curve.svg")
    assert "drew curve.svg" in ran.err
    texts = {node.text for node in ET.parse("curve.svg").iter() if node.text}
    assert {
        "small",
        "bits per LoRA parameter (header and all, less 1 KiB)",
        "relative error of ΔW",
        "water-filling bound",
        "layers of the file, measured",
    } <= texts
    first = Path("curve.svg").read_bytes()
    cli("inspect", packed, "--against", examples / "sst2", "--plot", "curve.svg")
    assert Path("curve.svg").read_bytes() == first
    cli("inspect", examples / "sst2", "--plot", "bound.png")
    assert Path("bound.png").read_bytes().startswith(b"\x89PNG\r\n")
    cli("inspect", packed, "--plot", "told.svg")
    told = {node.text for node in ET.parse("told.svg").iter() if node.text}
    assert "layers of the file, as recorded" in told
    assert "water-filling bound" not in told


def test_only_pictures_are_drawn(cli: CommandLine, packed: Path) -> None:
    assert ".png or .svg" in cli("inspect", packed, "--plot", "x.jpg", code=2).err
    assert "cannot be written" in cli("inspect", packed, "--plot", "no/where.svg", code=1).err


def test_layers_are_measured_and_never_below_the_bound(examples: Path, packed: Path) -> None:
    layers = measured_layers(packed, examples / "sst2")
    assert [layer.error for layer in layers] == sorted((x.error for x in layers), reverse=True)
    told = inspect(packed).layers
    for measured, recorded in zip(layers, told, strict=True):
        assert measured.bytes == recorded.bytes
        assert measured.error == pytest.approx(recorded.error, rel=1e-4)
    rates = [8 * layer.bytes / 110_592 for layer in layers]
    for layer, point in zip(layers, bound_curve(examples / "sst2", rates), strict=True):
        assert layer.error > point.error
