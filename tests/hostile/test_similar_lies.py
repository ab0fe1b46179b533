"""Give lying and damaged experts to the comparison: an error that names the file, or an answer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from compress.errors import CompressError
from merge.compressed import all_cosines, read_expert
from merge.compressed.comparable import comparable
from merge.errors import IncompatibleError
from tests.compress.rate_distortion import made
from tests.merge.compressed.libraries import METHODS, compressed, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Give a file by every method."""
    source = write(tmp_path_factory.mktemp("files") / "one", 1)
    return {how: compressed(source, how).read_bytes() for how in METHODS}


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(METHODS)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_changed_bytes_never_give_a_wrong_answer(
    files: dict[str, bytes], how: str, flips: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(files[how])
    for place, change in flips:
        data[int(place * (len(data) - 1))] ^= change
    if keep < 0.3:
        data = data[: int(keep * len(data))]
    if bytes(data) == files[how]:
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "changed.tern"
        path.write_bytes(data)
        with pytest.raises((CompressError, IncompatibleError), match="changed"):
            read_expert(path)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "{",
        "null",
        '{"peft_type": 3}',
        '{"peft_type": "LORA", "lora_alpha": "many"}',
        '{"peft_type": "LORA", "lora_alpha": 1e400}',
        '{"peft_type": "LORA", "alpha_pattern": [1]}',
        '{"peft_type": "LORA", "r": 1' + ', "x": [' * 20000,
    ],
)
def test_configs_that_lie_are_refused(config: str, tmp_path: Path) -> None:
    path = write(tmp_path / "odd", 1)
    (path / "adapter_config.json").write_text(config)
    with pytest.raises((CompressError, IncompatibleError)):
        read_expert(path)


@pytest.mark.parametrize("base", [3, ["x"], "", "   ", "x" * 5000, "\x00", None, {"a": 1}])
def test_bases_that_are_no_names_are_no_bases(base: Any, tmp_path: Path) -> None:
    expert = read_expert(write(tmp_path / "odd", 1, base_model_name_or_path=base))
    other = read_expert(write(tmp_path / "one", 2))
    kept, refused = comparable([expert, other])
    assert len(kept) == 2
    assert not refused


@pytest.mark.parametrize("alpha", [0, -3, 1e8, 1e-30])
def test_odd_scales_still_give_cosines(alpha: float, tmp_path: Path) -> None:
    experts = [
        read_expert(write(tmp_path / "odd", 1, lora_alpha=alpha)),
        read_expert(write(tmp_path / "one", 1)),
    ]
    found = all_cosines(experts)
    assert np.isfinite(found).all()
    assert found[0, 1] == pytest.approx(float(np.sign(alpha)), abs=1e-6)


def test_values_at_the_end_of_float32_still_give_cosines(tmp_path: Path) -> None:
    tensors = made.factors(1, modules=2, rank=2, sizes=(24, 40))
    small = {name: value * np.float32(1e-18) for name, value in tensors.items()}
    experts = [read_expert(made.save(tmp_path / n, t)) for n, t in (("1", tensors), ("2", small))]
    found = all_cosines(experts)
    assert np.isfinite(found).all()
    assert found[0, 1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("missing", ["lora_A", "lora_B"])
def test_a_factor_without_its_partner_is_no_pair(missing: str, tmp_path: Path) -> None:
    tensors = made.factors(1, modules=1, rank=2, sizes=(8, 8))
    half = {name: value for name, value in tensors.items() if missing not in name}
    with pytest.raises(IncompatibleError, match="no pair"):
        read_expert(made.save(tmp_path / "half", half))


def test_factors_whose_ranks_differ_are_no_pair(tmp_path: Path) -> None:
    folder = write(tmp_path / "odd", 1)
    tensors = {
        "m.q.lora_A.weight": np.ones((2, 8), np.float32),
        "m.q.lora_B.weight": np.ones((8, 3), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(IncompatibleError, match="no pair"):
        read_expert(folder)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    folder = write(tmp_path / "odd", 1)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(CompressError, match="pickle"):
        read_expert(folder)


def test_two_compressed_files_in_one_folder_are_not_guessed_at(tmp_path: Path) -> None:
    source = write(tmp_path / "one", 1)
    folder = tmp_path / "both"
    folder.mkdir()
    for how in ("rd", "compeft"):
        path = compressed(source, how)
        path.rename(folder / path.name)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(CompressError):
        read_expert(folder)
