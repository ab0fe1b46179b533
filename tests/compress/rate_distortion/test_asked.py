"""Check that one gets what one asks for: bits, an error, or layers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from compress import Rd, compress_adapter, decompress
from compress.container_read import TernFile
from compress.errors import OptionError
from compress.reports import CompressionReport
from tests.compress.rate_distortion import made

#: Above this many parameters names and config do not matter any more.
PARAMETERS = 8 * 32 * (256 + 192)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an adapter of more than 100,000 parameters."""
    folder = tmp_path_factory.mktemp("asked") / "source"
    tensors = made.factors(modules=8, rank=32, sizes=(256, 192), decay=0.9)
    return made.save(folder, tensors)


def compressed(source: Path, work: Path, method: Rd) -> tuple[CompressionReport, float]:
    """Compress; give the report and the error that dense arithmetic finds."""
    report = compress_adapter(source, work / "x.tern", method=method)
    assert report.size.total == (work / "x.tern").stat().st_size
    decompress(work / "x.tern", work / "back")
    return report, made.error(made.deltas(source), made.deltas(work / "back"))


def test_bits_are_used_and_not_exceeded_and_errors_fall(source: Path, tmp_path: Path) -> None:
    errors = []
    for bits in (0.5, 1.0, 2.0):
        work = tmp_path / str(bits)
        work.mkdir()
        report, error = compressed(source, work, Rd(bits=bits))
        assert report.parameters == PARAMETERS
        assert 0.97 * bits <= report.bits_per_param <= bits
        assert report.delta_error == pytest.approx(error, rel=1e-5)
        assert report.error_bound is not None
        assert error <= 1.2 * report.error_bound
        assert not report.erased
        assert not report.warnings
        errors.append(error)
    assert all(coarse > 1.2 * fine for coarse, fine in pairwise(errors))


def test_few_bits_are_used_too(source: Path, tmp_path: Path) -> None:
    report, _ = compressed(source, tmp_path, Rd(bits=0.25))
    assert 0.97 * 0.25 <= report.bits_per_param <= 0.25


@pytest.mark.parametrize("asked", [0.6, 0.1])
def test_an_error_is_reached_and_hardly_undercut(
    asked: float, source: Path, tmp_path: Path
) -> None:
    report, error = compressed(source, tmp_path, Rd(max_error=asked))
    assert 0.97 * asked <= error <= asked
    assert not report.warnings


def test_no_module_is_worse_than_allowed(source: Path, tmp_path: Path) -> None:
    plain, _ = compressed(source, tmp_path, Rd(max_error=0.5))
    worst = max(row.error or 0.0 for row in plain.modules)
    limit = 0.9 * worst
    report, error = compressed(source, _sub(tmp_path), Rd(max_error=0.5, max_module_error=limit))
    original, decoded = made.deltas(source), made.deltas(_sub(tmp_path) / "back")
    for name, value in original.items():
        assert made.error({name: value}, decoded) <= limit
    assert error <= 0.5
    assert report.size.lossy > plain.size.lossy
    assert not report.warnings


def _sub(folder: Path) -> Path:
    (folder / "sub").mkdir(exist_ok=True)
    return folder / "sub"


def test_a_tiny_error_can_be_asked_for(tmp_path: Path) -> None:
    source = made.save(tmp_path / "a", made.factors(modules=2))
    _, error = compressed(source, tmp_path, Rd(max_error=0.003))
    assert error <= 0.003


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_are_as_many_as_asked(layers: int, source: Path, tmp_path: Path) -> None:
    report, error = compressed(source, tmp_path, Rd(layers=layers))
    assert len(report.layers) == layers
    with TernFile(tmp_path / "x.tern") as tern:
        assert tern.layer_count == layers
    assert report.layers[-1].error == pytest.approx(error, rel=1e-4)
    assert not report.erased


def test_more_layers_err_less(source: Path, tmp_path: Path) -> None:
    errors = []
    for layers in (2, 3, 4):
        report = compress_adapter(source, tmp_path / f"{layers}.tern", method=Rd(layers=layers))
        errors.append(report.delta_error or 0.0)
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2] > 0


def test_many_bits_on_a_wide_spectrum(tmp_path: Path) -> None:
    """Components from strong to faint all get described when bits allow it."""
    tensors = made.factors(modules=16, rank=16, sizes=(256, 256), decay=0.6)
    report, error = compressed(made.save(tmp_path / "a", tensors), tmp_path, Rd(bits=6))
    assert 0.97 * 6 <= report.bits_per_param <= 6
    assert error < 0.02


def test_as_many_bits_as_can_be_asked_for(tmp_path: Path) -> None:
    source = made.save(tmp_path / "a", made.factors(modules=2, rank=4))
    report, error = compressed(source, tmp_path, Rd(bits=8))
    assert report.bits_per_param <= 8
    assert error < 0.06


def test_what_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    source = made.save(tmp_path / "a", made.factors(modules=1, rank=2, sizes=(20, 20)))
    for method, field in (
        (Rd(bits=0.01), "bits"),
        (Rd(max_error=1e-9), "max_error"),
        (Rd(max_module_error=1e-9), "max_module_error"),
    ):
        with pytest.raises(OptionError, match="cannot be reached") as caught:
            compress_adapter(source, tmp_path / "x.tern", method=method)
        assert field in caught.value.field
        assert not (tmp_path / "x.tern").exists()


def test_who_asks_for_nothing_gets_something_useful_of_a_tiny_adapter(tmp_path: Path) -> None:
    source = made.save(tmp_path / "a", made.factors(modules=1, rank=2, sizes=(20, 20)))
    report, error = compressed(source, tmp_path, Rd())
    assert 0.2 < error <= 0.3
    assert any("0.5 bits per parameter cannot be reached" in text for text in report.warnings)


def test_more_bits_never_err_more_on_modules_that_are_alike(tmp_path: Path) -> None:
    """Their components all become worth their bits at the same price: sizes jump there."""
    one = made.factors(modules=1, rank=8, sizes=(256, 256))
    tensors = {
        name.replace(".0.q", f".{n}.q"): value.copy()
        for n in range(12)
        for name, value in one.items()
    }
    source = made.save(tmp_path / "a", tensors)
    asked = (0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0, 1.2)
    reports = [
        compress_adapter(source, tmp_path / f"{bits}.tern", method=Rd(bits=bits)) for bits in asked
    ]
    errors = [report.delta_error or 0.0 for report in reports]
    assert all(fine <= coarse for coarse, fine in pairwise(errors))
    assert all(
        report.bits_per_param >= 0.94 * bits for bits, report in zip(asked, reports, strict=True)
    )


def test_the_smallest_of_all_that_err_no_more(tmp_path: Path) -> None:
    """An error between two numbers of components is reached with the fewer and a finer step."""
    tensors = made.factors(modules=2, rank=6, sizes=(64, 80), decay=0.5)
    source = made.save(tmp_path / "a", tensors)
    sizes = []
    for error in (0.5, 0.4, 0.35, 0.3, 0.27, 0.25):
        report = compress_adapter(source, tmp_path / f"{error}", method=Rd(max_error=error))
        assert 0.94 * error <= (report.delta_error or 0.0) <= error
        sizes.append(report.size.lossy)
    assert sizes == sorted(sizes)


def weak_and_strong() -> made.Tensors:
    """Make modules of which some are a thousand times as strong as others."""
    tensors = made.factors(modules=6, rank=4, sizes=(96, 128))
    for layer in (1, 4):
        tensors[f"{made.PREFIX}.{layer}.q.lora_B.weight"] *= np.float32(1e-3)
    return tensors


@pytest.mark.parametrize("options", [{"max_error": 0.4}, {"bits": 3.0}, {}])
def test_weak_modules_keep_their_limit_too(options: dict[str, float], tmp_path: Path) -> None:
    source = made.save(tmp_path / "a", weak_and_strong())
    method = Rd(max_module_error=0.5, **options)  # type: ignore[arg-type]  # numbers by name
    report, error = compressed(source, tmp_path, method)
    original, decoded = made.deltas(source), made.deltas(tmp_path / "back")
    worst = max(made.error({name: value}, decoded) for name, value in original.items())
    assert worst <= 0.5
    assert error <= options.get("max_error", 0.5)
    assert not report.erased
    if "bits" not in options:
        assert worst >= 0.9 * 0.5


def test_rounding_to_bfloat16_is_part_of_the_error(tmp_path: Path) -> None:
    tensors = {
        name: value.astype(ml_dtypes.bfloat16)
        for name, value in made.factors(modules=3, rank=8).items()
    }
    _, error = compressed(made.save(tmp_path / "a", tensors), tmp_path, Rd(max_error=0.01))
    assert 0.009 <= error <= 0.01


def test_hundreds_of_tiny_modules_all_keep_something(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tensors: made.Tensors = {}
    for number in range(300):
        name, strength = f"{made.PREFIX}.{number}.q", 10 ** rng.uniform(-3, 0)
        tensors[f"{name}.lora_A.weight"] = rng.normal(size=(2, 16)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = (strength * rng.normal(size=(16, 2))).astype(np.float32)
    source = made.save(tmp_path / "a", tensors)
    report, error = compressed(source, tmp_path, Rd(bits=1.0))
    decoded = made.deltas(tmp_path / "back")
    assert not report.erased
    assert error < 0.6
    for name, value in made.deltas(source).items():
        assert made.error({name: value}, decoded) < 0.999


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 0.5, "layers": 2},
        {"bits": 0.5, "max_error": 0.2},
        {"max_error": 0.2, "layers": 2},
        {"bits": 0.0},
        {"bits": -1.0},
        {"bits": float("nan")},
        {"bits": 13.0},
        {"max_error": 0.0},
        {"max_error": 1.0},
        {"max_error": float("nan")},
        {"layers": 0},
        {"layers": 9},
        {"max_module_error": 1.5},
        {"gain": 0.0},
        {"gain": float("inf")},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError) as caught:
        Rd(**options)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field.split()[0] in options
