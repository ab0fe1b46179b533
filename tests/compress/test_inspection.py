"""Check what inspecting says about adapters and compressed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress import Compeft, compress_adapter, inspect
from compress.errors import SourceError, TernDamagedError, TernTooLargeError
from compress.inspection import is_tern

Make = Callable[..., Path]


def test_an_adapter_is_described(make_adapter: Make) -> None:
    found = inspect(make_adapter())
    assert found.encoding == "peft"
    assert found.peft_type == "LORA"
    assert found.parameters == 2 * 2 * 2 * 4 * 24
    assert found.exact_tensors == ("base_model.model.score.weight",)
    assert found.exact_parameters == 72
    assert found.size.lossy == 4 * found.parameters
    assert found.delta_error is None
    assert [row.rank for row in found.modules] == [4, 4, 4, 4]
    assert [row.scale for row in found.modules] == [2.0] * 4
    assert all(row.error is None and not row.erased for row in found.modules)
    assert found.bits_per_param == 32


def test_a_zero_factor_shows(make_adapter: Make) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "m.q.lora_A.weight": rng.normal(size=(4, 8)).astype(np.float32),
        "m.q.lora_B.weight": np.zeros((8, 4), np.float32),
    }
    found = inspect(make_adapter(tensors))
    assert found.erased == ("m.q",)
    assert found.modules[0].density_b == 0


@pytest.mark.parametrize("destination", ["x.tern", "small"])
def test_a_compressed_adapter_is_described_alike(
    destination: str, make_adapter: Make, tmp_path: Path
) -> None:
    folder = make_adapter()
    report = compress_adapter(folder, tmp_path / destination, method=Compeft(0.2))
    alone = inspect(tmp_path / destination)
    assert alone.encoding == "tern"
    assert alone.size == report.size
    assert alone.parameters == report.parameters
    assert alone.nonzero == report.nonzero
    assert alone.exact_tensors == report.exact_tensors
    assert alone.delta_error is None
    assert alone.properties["density"] == "0.2"
    assert alone.properties["scope"] == "global"
    compared = inspect(tmp_path / destination, against=folder)
    assert compared.delta_error == pytest.approx(report.delta_error)
    assert compared.delta_cosine == pytest.approx(report.delta_cosine)
    assert compared.modules == report.modules
    assert compared.erased == report.erased
    assert float(alone.properties["delta_error"]) == pytest.approx(report.delta_error, rel=1e-3)


def test_an_adapter_against_itself_has_no_error(make_adapter: Make) -> None:
    folder = make_adapter()
    found = inspect(folder, against=folder)
    assert found.delta_error == pytest.approx(0, abs=1e-7)
    assert found.delta_cosine == pytest.approx(1)


def test_the_original_may_be_compressed_too(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    compress_adapter(folder, tmp_path / "x.tern", method=Compeft(0.5))
    found = inspect(tmp_path / "x.tern", against=tmp_path / "x.tern")
    assert found.delta_error == pytest.approx(0, abs=1e-7)
    assert inspect(folder, against=tmp_path / "x.tern").delta_error is not None


def test_modules_of_only_one_side_are_named(make_adapter: Make) -> None:
    rng = np.random.default_rng(0)

    def module(name: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
            f"{name}.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        }

    left = make_adapter({**module("q"), **module("v")}, name="left")
    right = make_adapter({**module("q"), **module("k")}, name="right")
    found = inspect(left, against=right)
    assert "v is not in the original" in found.warnings
    assert "k is only in the original" in found.warnings
    assert [row.error is None for row in found.modules] == [False, True]


def test_tensors_that_are_no_lora_are_compared(make_adapter: Make, tmp_path: Path) -> None:
    tensors = {"l.0.k.ia3_l": np.linspace(0.5, 1.5, 32, dtype=np.float32)}
    folder = make_adapter(tensors, config={"peft_type": "IA3"})
    report = compress_adapter(folder, tmp_path / "x.tern", method=Compeft(0.5))
    found = inspect(tmp_path / "x.tern", against=folder)
    assert found.delta_error is None
    assert found.modules[0].error == pytest.approx(report.vector_error, rel=1e-5)
    assert found.modules[0].rank is None


def test_a_description_is_plain_json(make_adapter: Make, tmp_path: Path) -> None:
    compress_adapter(make_adapter(), tmp_path / "x.tern", method=Compeft())
    text = json.dumps(inspect(tmp_path / "x.tern").to_json(), allow_nan=False)
    assert json.loads(text)["properties"]["method"] == "compeft"


def test_what_is_tern_and_what_is_not(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    compress_adapter(folder, tmp_path / "x.tern", method=Compeft())
    compress_adapter(folder, tmp_path / "small", method=Compeft())
    (tmp_path / "noise").write_bytes(b"noise")
    assert is_tern(tmp_path / "x.tern")
    assert is_tern(tmp_path / "small")
    assert not is_tern(folder)
    assert not is_tern(folder / "adapter_model.safetensors")
    assert not is_tern(tmp_path / "noise")
    assert not is_tern(tmp_path / "absent")


def test_damage_and_size_are_noticed(make_adapter: Make, tmp_path: Path) -> None:
    path = tmp_path / "x.tern"
    compress_adapter(make_adapter(), path, method=Compeft())
    with pytest.raises(TernTooLargeError):
        inspect(path, max_decoded_bytes=100)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(TernDamagedError):
        inspect(path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent"):
        inspect(tmp_path / "absent")
