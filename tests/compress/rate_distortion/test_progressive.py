"""Check that a file that ends after a layer is a coarser adapter, and that no other end is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from compress import Rd, compress_adapter, decompress, inspect
from compress.coarsen import coarsen
from compress.container_read import TernFile
from compress.errors import TernDamagedError, TernError
from compress.reports import CompressionReport
from tests.compress.rate_distortion import made

LAYERS = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompressionReport]:
    """Compress an adapter with a head to four layers."""
    work = tmp_path_factory.mktemp("whole")
    tensors = made.factors()
    tensors["base_model.model.score.weight"] = tensors[f"{made.PREFIX}.0.q.lora_A.weight"][:3] + 1
    source = made.save(work / "source", tensors)
    report = compress_adapter(source, work / "x.tern", method=Rd(layers=LAYERS))
    return work, report


def cut(work: Path, report: CompressionReport, layers: int) -> bytes:
    """Give the file up to and with a layer."""
    data = (work / "x.tern").read_bytes()
    rest = report.layers[-1].bytes - report.layers[layers - 1].bytes
    return data[: len(data) - rest]


def decoded(path: Path, out: Path, layers: int | None) -> bytes:
    """Decode to a folder and read the weights."""
    decompress(path, out, layers=layers)
    return (out / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("layers", range(1, LAYERS + 1))
def test_a_prefix_is_the_coarser_adapter(
    layers: int, whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, report = whole
    (tmp_path / "cut.tern").write_bytes(cut(work, report, layers))
    from_prefix = decoded(tmp_path / "cut.tern", tmp_path / "prefix", layers)
    assert from_prefix == decoded(work / "x.tern", tmp_path / "whole", layers)
    error = made.error(made.deltas(work / "source"), made.deltas(tmp_path / "prefix"))
    assert error == pytest.approx(report.layers[layers - 1].error, rel=1e-4)
    head = "base_model.model.score.weight"
    original = load_file(work / "source" / "adapter_model.safetensors")[head]
    back = load_file(tmp_path / "prefix" / "adapter_model.safetensors")[head]
    assert back.tobytes() == original.tobytes()


def test_every_layer_makes_it_better(whole: tuple[Path, CompressionReport]) -> None:
    _, report = whole
    errors = [layer.error for layer in report.layers]
    assert len(errors) == LAYERS
    assert all(later < 0.8 * error for error, later in pairwise(errors))
    assert errors[0] < 1
    ends = [layer.bytes for layer in report.layers]
    assert ends == sorted(set(ends))


def test_all_layers_are_the_whole(whole: tuple[Path, CompressionReport], tmp_path: Path) -> None:
    work, _ = whole
    one = decoded(work / "x.tern", tmp_path / "one", None)
    assert one == decoded(work / "x.tern", tmp_path / "all", LAYERS)


@pytest.mark.parametrize("layers", range(1, LAYERS))
def test_a_prefix_alone_is_not_a_file(
    layers: int, whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    """Who does not say that fewer layers are wanted is told that something is missing."""
    work, report = whole
    (tmp_path / "cut.tern").write_bytes(cut(work, report, layers))
    with pytest.raises(TernError):
        decompress(tmp_path / "cut.tern", tmp_path / "out")
    with pytest.raises(TernError):
        inspect(tmp_path / "cut.tern")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", [0, -1, LAYERS + 1, 99])
def test_layers_that_are_not_there_are_refused(
    layers: int, whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="layer"):
        decompress(whole[0] / "x.tern", tmp_path / "out", layers=layers)
    assert not (tmp_path / "out").exists()


def test_a_prefix_of_fewer_layers_than_wanted_is_refused(
    whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, report = whole
    (tmp_path / "cut.tern").write_bytes(cut(work, report, 2))
    with pytest.raises(TernError, match="layers"):
        decompress(tmp_path / "cut.tern", tmp_path / "out", layers=3)


def test_every_other_end_is_refused(whole: tuple[Path, CompressionReport], tmp_path: Path) -> None:
    """Cut anywhere: without layers nothing opens, with layers only what covers them does."""
    work, report = whole
    data = (work / "x.tern").read_bytes()
    needed = [len(cut(work, report, layers)) for layers in range(1, LAYERS + 1)]
    right = {n: decoded(work / "x.tern", tmp_path / f"r{n}", n) for n in (1, 2)}
    path = tmp_path / "cut.tern"
    ends = {*range(0, len(data), 97), *(end + by for end in needed for by in (-1, 0, 1))}
    for number, end in enumerate(sorted(end for end in ends if end < len(data))):
        path.write_bytes(data[:end])
        with pytest.raises(TernError):
            TernFile(path).close()
        for layers in (1, 2):
            if end >= needed[layers - 1]:
                assert decoded(path, tmp_path / f"o{number}-{layers}", layers) == right[layers]
                continue
            with pytest.raises(TernError):
                TernFile(path, layers=layers).close()


def test_a_coarser_file_tells_of_itself_alone(
    whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    work, report = whole
    coarsen(work / "x.tern", tmp_path / "coarse.tern", 2)
    with TernFile(work / "x.tern") as fine, TernFile(tmp_path / "coarse.tern") as coarse:
        assert {"shannon_bytes", "asked_layers"} <= set(fine.metadata)
        assert not {"shannon_bytes", "asked_layers"} & set(coarse.metadata)
        assert coarse.metadata["layers"] == f"2 of {LAYERS}"
        told = float(coarse.metadata["delta_error"])
        assert told == pytest.approx(report.layers[1].error, rel=1e-3)
        assert coarse.metadata["source_sha256"] == fine.metadata["source_sha256"]


def test_a_cut_file_says_how_it_can_still_be_read(
    whole: tuple[Path, CompressionReport], tmp_path: Path
) -> None:
    (tmp_path / "cut.tern").write_bytes(cut(*whole, 1))
    with pytest.raises(TernDamagedError, match="ask for so many layers as are left"):
        TernFile(tmp_path / "cut.tern")
