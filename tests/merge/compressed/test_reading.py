"""Check what is read of an expert, and that what is odd or damaged is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compress import Rd, compress_adapter, decode_tensors
from compress.errors import CompressError
from compress.trit_rows import TritRows, unpack_rows
from merge.compressed import read_expert
from merge.errors import IncompatibleError
from tests.compress.rate_distortion import made
from tests.merge.compressed.libraries import compressed, write


def test_trits_and_scales_are_those_that_decoding_gives(tmp_path: Path) -> None:
    path = compressed(write(tmp_path / "one", 1, dtype="float16"), "compeft")
    expert = read_expert(path)
    (tensors,) = decode_tensors([path])
    for name, module in expert.modules.items():
        assert module.scales is not None
        assert isinstance(module.a, TritRows)
        assert isinstance(module.b, TritRows)
        a, b = (unpack_rows(side).astype(np.float64) for side in (module.a, module.b))
        stored_a, stored_b = (tensors[f"{name}.lora_{side}.weight"] for side in "AB")
        np.testing.assert_array_equal(module.scales[0] * a, stored_a)
        np.testing.assert_array_equal(module.scales[1] * b.T, stored_b)
    assert (expert.method, expert.base) == ("compeft", "tiny")
    assert expert.size_bytes < 3000


def test_layers_are_held_in_a_byte_a_value(tmp_path: Path) -> None:
    expert = read_expert(compressed(write(tmp_path / "one", 1), "rd"))
    for module in expert.modules.values():
        assert isinstance(module.a, np.ndarray)
        assert module.a.dtype == np.int8
        assert module.rank <= 4
        assert module.shape == (24, 40)
        assert module.scales is None


@pytest.mark.parametrize("at", [3, 40, 300, -1, -40])
@pytest.mark.parametrize("how", ["rd", "compeft"])
def test_a_damaged_file_is_named(how: str, at: int, tmp_path: Path) -> None:
    path = compressed(write(tmp_path / "one", 1), how)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(CompressError, match="one-"):
        read_expert(path)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_file_that_is_cut_off_is_named(kept: int, tmp_path: Path) -> None:
    path = compressed(write(tmp_path / "one", 1), "rd")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CompressError, match="one-"):
        read_expert(path)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)
def test_what_is_no_product_of_factors_is_refused(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(IncompatibleError) as caught:
        read_expert(write(tmp_path / "odd", 1, **changes))
    assert caught.value.field == field
    assert caught.value.file.endswith("odd")


def test_an_adapter_without_factors_is_refused(tmp_path: Path) -> None:
    path = made.save(tmp_path / "head", {"score.weight": np.ones((2, 3), np.float32)})
    with pytest.raises(IncompatibleError, match="no pair"):
        read_expert(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    tensors = made.factors(1, modules=1, rank=2, sizes=(8, 8))
    next(iter(tensors.values()))[0, 0] = value
    with pytest.raises((IncompatibleError, CompressError), match=r"finite|NaN"):
        read_expert(made.save(tmp_path / "nan", tensors))


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    for name in ("empty", "config"):
        (tmp_path / name).mkdir()
    (tmp_path / "config" / "adapter_config.json").write_text("{")
    for name in ("empty", "config", "absent"):
        with pytest.raises(CompressError):
            read_expert(tmp_path / name)


def test_a_file_of_factors_needs_no_config(tmp_path: Path) -> None:
    path = tmp_path / "raw.safetensors"
    save_file(made.factors(1, modules=1, rank=2, sizes=(8, 8)), path)
    expert = read_expert(path)
    assert expert.base is None
    assert expert.label == str(path)


def test_alpha_that_stands_beside_the_factors_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "unet.q.lora_down.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "unet.q.lora_up.weight": rng.normal(size=(6, 2)).astype(np.float32),
        "unet.q.alpha": np.array(6, np.float32),
    }
    path, small = tmp_path / "kohya.safetensors", tmp_path / "kohya.tern"
    save_file(tensors, path)
    compress_adapter(path, small, method=Rd(max_error=0.3))
    for each in (path, small):
        (module,) = read_expert(each).modules.values()
        assert module.weights.tolist() == [3.0, 3.0][: module.rank]


def test_a_hand_written_config_may_lack_a_base(tmp_path: Path) -> None:
    path = write(tmp_path / "one", 1)
    config = json.loads((path / "adapter_config.json").read_text())
    del config["base_model_name_or_path"]
    (path / "adapter_config.json").write_text(json.dumps(config))
    assert read_expert(path).base is None
