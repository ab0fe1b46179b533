"""Check what can be chosen beside the rate: gain, heads, rank, and second moments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compress import Gain, Heads, Rd, compress_adapter, decompress, inspect
from compress.errors import OptionError, SourceError
from tests.compress.rate_distortion import made
from tests.compress.rate_distortion.made import PREFIX, Tensors

Array = NDArray[Any]
WEIGHTS = "adapter_model.safetensors"
HEAD = "base_model.model.score.weight"


def with_head(dtype: Any = np.float32) -> Tensors:
    """Make an adapter with a head that is large enough to be rounded, and a small one."""
    rng = np.random.default_rng(9)
    tensors = made.factors(modules=2)
    tensors[HEAD] = rng.normal(size=(40, 96)).astype(dtype)
    tensors["base_model.model.score.bias"] = rng.normal(size=40).astype(dtype)
    return tensors


def norm_of(folder: Path) -> float:
    """Give ‖ΔW‖ over all modules."""
    return float(np.sqrt(sum(np.square(value).sum() for value in made.deltas(folder).values())))


def test_the_gain_restores_the_norm(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(rank=16))
    norms, errors = {}, {}
    for gain in (Gain.NONE, Gain.NORM):
        path = tmp_path / f"{gain}.tern"
        report = compress_adapter(source, path, method=Rd(bits=0.7, gain=gain))
        decompress(path, tmp_path / gain)
        norms[gain] = norm_of(tmp_path / gain)
        errors[gain] = made.error(made.deltas(source), made.deltas(tmp_path / gain))
        assert report.delta_error == pytest.approx(errors[gain], rel=1e-4)
    assert norms[Gain.NORM] == pytest.approx(norm_of(source), rel=0.01)
    assert norms[Gain.NONE] < 0.97 * norm_of(source)
    assert errors[Gain.NORM] > errors[Gain.NONE]


def test_a_gain_multiplies_all_of_it(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(rank=16))
    for name, gain in (("plain", Gain.NONE), ("louder", 1.25)):
        compress_adapter(source, tmp_path / f"{name}.tern", method=Rd(layers=3, gain=gain))
        decompress(tmp_path / f"{name}.tern", tmp_path / name)
    plain, louder = made.deltas(tmp_path / "plain"), made.deltas(tmp_path / "louder")
    assert made.error({key: 1.25 * value for key, value in plain.items()}, louder) < 1e-5
    assert inspect(tmp_path / "louder.tern").properties["gain"] == "1.25"


@pytest.mark.parametrize("heads", [Heads.INT8, Heads.INT4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rounded_heads_cost_what_is_reported(heads: Heads, dtype: Any, tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", with_head(dtype))
    report = compress_adapter(source, tmp_path / "x.tern", method=Rd(bits=2, heads=heads))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back, original = load_file(tmp_path / "back" / WEIGHTS), with_head(dtype)
    (told,) = report.heads
    assert told.name == HEAD
    assert told.source_bytes == original[HEAD].nbytes
    wide = original[HEAD].astype(np.float64)
    error = float(np.linalg.norm(back[HEAD] - wide) / np.linalg.norm(wide))
    assert told.error == pytest.approx(error, rel=0.02)
    assert error < {Heads.INT8: 0.01, Heads.INT4: 0.15}[heads]
    assert report.size.heads == told.bytes <= 40 * 96 * {Heads.INT8: 1.05, Heads.INT4: 0.55}[heads]
    assert back[HEAD].dtype == dtype
    bias = "base_model.model.score.bias"
    assert back[bias].tobytes() == original[bias].tobytes()
    assert report.exact_tensors == (bias,)
    assert report.size.total == (tmp_path / "x.tern").stat().st_size


def test_heads_are_exact_unless_asked_otherwise(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", with_head())
    report = compress_adapter(source, tmp_path / "x.tern", method=Rd(bits=2))
    decompress(tmp_path / "x.tern", tmp_path / "back")
    back = load_file(tmp_path / "back" / WEIGHTS)
    assert back[HEAD].tobytes() == with_head()[HEAD].tobytes()
    assert not report.heads
    assert report.size.heads == 0


def few_components() -> Tensors:
    """Make factors of rank 12 whose ΔW has two components worth a bit."""
    return made.factors(modules=3, rank=12, decay=0.45)


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
def test_trimming_changes_the_rank_and_not_the_delta(
    config: dict[str, object], tmp_path: Path
) -> None:
    source = made.save(tmp_path / "source", few_components(), **config)
    for name, trim in (("wide", False), ("thin", True)):
        method = Rd(layers=2, trim_rank=trim)
        report = compress_adapter(source, tmp_path / f"{name}.tern", method=method)
        decompress(tmp_path / f"{name}.tern", tmp_path / name)
    thin = load_file(tmp_path / "thin" / WEIGHTS)
    rank = json.loads((tmp_path / "thin" / "adapter_config.json").read_text())["r"]
    assert rank < 12
    assert {value.shape for key, value in thin.items() if "lora_A" in key} == {(rank, 128)}
    wide = made.deltas(tmp_path / "wide")
    assert made.error(wide, made.deltas(tmp_path / "thin")) < 1e-6
    assert report.delta_error == pytest.approx(
        made.error(made.deltas(source), made.deltas(tmp_path / "thin")), rel=1e-4
    )
    folder_config = json.loads((source / "adapter_config.json").read_text())
    assert folder_config["r"] == 12


def test_trimming_does_not_make_bits_unreachable(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", few_components())
    report = compress_adapter(source, tmp_path / "x.tern", method=Rd(bits=1.5, trim_rank=True))
    assert report.bits_per_param <= 1.5
    assert not report.warnings


def test_a_trimmed_adapter_loads_in_peft(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests import peft_zoo

    peft_zoo.make_adapter("LORA", tmp_path / "source", r=16, lora_alpha=16)
    method = Rd(layers=1, trim_rank=True)
    compress_adapter(tmp_path / "source", tmp_path / "x.tern", method=method)
    decompress(tmp_path / "x.tern", tmp_path / "thin")
    compress_adapter(tmp_path / "source", tmp_path / "y.tern", method=Rd(layers=1))
    decompress(tmp_path / "y.tern", tmp_path / "wide")
    assert json.loads((tmp_path / "thin" / "adapter_config.json").read_text())["r"] < 16
    thin, wide = (peft_zoo.logits(tmp_path / name) for name in ("thin", "wide"))
    np.testing.assert_allclose(thin, wide, atol=1e-6)


def test_ranks_that_differ_cannot_be_trimmed(tmp_path: Path) -> None:
    tensors = made.factors(modules=2)
    tensors |= {k.replace(".q", ".v"): v for k, v in made.factors(3, modules=2, rank=3).items()}
    source = made.save(tmp_path / "source", tensors, rank_pattern={"v": 3})
    with pytest.raises(OptionError, match="trim"):
        compress_adapter(source, tmp_path / "x.tern", method=Rd(trim_rank=True))
    assert not (tmp_path / "x.tern").exists()


def moments_of(kind: str, d_in: int) -> Array:
    """Make second moments of inputs of which an eighth are a hundred times as strong."""
    strong = np.where(np.arange(d_in) % 8 == 0, 100.0, 1.0)
    if kind == "diagonal":
        return strong.astype(np.float32)
    mixed, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(d_in, d_in)))
    full: Array = (mixed * strong @ mixed.T).astype(np.float32)
    return full


def weighted_error(source: Path, back: Path, moment: Array) -> float:
    """Give the relative change of outputs, √(tr ΔΔ C ΔΔᵀ / tr ΔW C ΔWᵀ)."""
    full = np.diag(moment) if moment.ndim == 1 else moment
    gap = norm = 0.0
    decoded = made.deltas(back)
    for name, value in made.deltas(source).items():
        gap += float(np.trace((decoded[name] - value) @ full @ (decoded[name] - value).T))
        norm += float(np.trace(value @ full @ value.T))
    return float(np.sqrt(gap / norm))


@pytest.mark.parametrize(("kind", "share"), [("diagonal", 0.85), ("full", 1.0)])
def test_moments_lower_the_error_of_the_outputs(kind: str, share: float, tmp_path: Path) -> None:
    tensors = made.factors(modules=3, rank=12)
    source = made.save(tmp_path / "source", tensors)
    moment = moments_of(kind, 128)
    file = tmp_path / "moments.safetensors"
    save_file({f"{PREFIX}.{n}.q.second_moment": moment for n in range(3)}, file)
    errors, sizes = [], []
    for name, moments in (("plain", None), ("weighted", file)):
        path = tmp_path / f"{name}.tern"
        report = compress_adapter(source, path, method=Rd(bits=2, moments=moments))
        decompress(path, tmp_path / name)
        errors.append(weighted_error(source, tmp_path / name, moment))
        sizes.append(report.size.lossy)
        told = made.error(made.deltas(source), made.deltas(tmp_path / name))
        assert report.delta_error == pytest.approx(told, rel=1e-4)
    assert errors[1] < share * errors[0]
    assert sizes[1] < 1.03 * sizes[0]
    assert inspect(tmp_path / "weighted.tern").properties["calibrated"] == "true"


def test_even_moments_change_nothing(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(modules=3))
    file = tmp_path / "moments.safetensors"
    even = {f"{PREFIX}.{n}.q.second_moment": np.full(128, 7, np.float32) for n in range(3)}
    save_file(even, file)
    plain = compress_adapter(source, tmp_path / "a.tern", method=Rd(layers=3))
    same = compress_adapter(source, tmp_path / "b.tern", method=Rd(layers=3, moments=file))
    assert same.delta_error == pytest.approx(plain.delta_error, rel=0.01)
    # the header says that it was calibrated
    assert same.size.lossy == pytest.approx(plain.size.lossy, rel=0.02, abs=64)


def test_strong_inputs_make_a_whole_module_count_more(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(modules=3))
    moments = {f"{PREFIX}.{n}.q.second_moment": np.ones(128, np.float32) for n in range(3)}
    moments[f"{PREFIX}.0.q.second_moment"] *= 50
    save_file(moments, tmp_path / "moments.safetensors")
    method = Rd(bits=2, moments=tmp_path / "moments.safetensors")
    plain = compress_adapter(source, tmp_path / "a.tern", method=Rd(bits=2))
    weighted = compress_adapter(source, tmp_path / "b.tern", method=method)
    before, after = ([row.error or 0.0 for row in one.modules] for one in (plain, weighted))
    assert after[0] < 0.7 * before[0]
    assert after[2] > before[2]
    assert float(weighted.settings["weighted_error"]) < (weighted.delta_error or 0)


def test_a_calibrated_error_is_the_plain_one(tmp_path: Path) -> None:
    """What is asked for is the error of ΔW, whatever errors are weighted with."""
    source = made.save(tmp_path / "source", made.factors(modules=4, rank=16, sizes=(200, 128)))
    rng = np.random.default_rng(0)
    moments = {
        f"{PREFIX}.{n}.q.second_moment": rng.lognormal(0, 1.5, 128).astype(np.float32)
        for n in range(4)
    }
    save_file(moments, tmp_path / "moments.safetensors")
    method = Rd(max_error=0.3, moments=tmp_path / "moments.safetensors")
    report = compress_adapter(source, tmp_path / "a.tern", method=method)
    assert 0.9 * 0.3 <= (report.delta_error or 0) <= 0.3


@pytest.mark.parametrize(
    "moment",
    [
        np.ones(127, np.float32),
        np.ones((96, 96), np.float32),
        np.ones((1, 128), np.float32),
        np.zeros(128, np.float32),
        -np.ones(128, np.float32),
        np.full(128, np.nan, np.float32),
        np.full(128, np.inf, np.float32),
    ],
    ids=["short", "of outputs", "two axes", "zero", "negative", "nan", "infinite"],
)
def test_moments_that_do_not_fit_are_refused(moment: Array, tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(modules=1))
    file = tmp_path / "moments.safetensors"
    save_file({f"{PREFIX}.0.q.second_moment": moment}, file)
    with pytest.raises(OptionError) as caught:
        compress_adapter(source, tmp_path / "x.tern", method=Rd(moments=file))
    assert caught.value.field == "calibrate"
    assert not (tmp_path / "x.tern").exists()


def test_moments_of_other_modules_are_refused(tmp_path: Path) -> None:
    source = made.save(tmp_path / "source", made.factors(modules=1))
    file = tmp_path / "moments.safetensors"
    save_file({"other.second_moment": np.ones(128, np.float32)}, file)
    with pytest.raises(SourceError, match="moments") as caught:
        compress_adapter(source, tmp_path / "x.tern", method=Rd(moments=file))
    assert caught.value.expected == f"{PREFIX}.0.q.second_moment"
    with pytest.raises(SourceError, match="moments"):
        compress_adapter(source, tmp_path / "x.tern", method=Rd(moments=tmp_path / "absent"))
    file.write_bytes(b"no safetensors at all")
    with pytest.raises(SourceError):
        compress_adapter(source, tmp_path / "x.tern", method=Rd(moments=file))
