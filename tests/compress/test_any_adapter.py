"""Compress adapters of random make: whatever their shapes, types and options, they come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress import Compeft, Scope, compress_adapter, decompress, inspect
from compress.container_read import TernFile
from compress.errors import OptionError
from compress.tensor_file import TensorFile, TensorInfo, TensorWriter
from tests.compress.closed_form import per_group

Array = NDArray[Any]
TYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}
OTHER_TYPES = ("F32", "I64", "U8", "BOOL", "F8_E8M0", "C64")


@dataclass(frozen=True)
class Made:
    """Hold a made adapter: its tensors' descriptions and bytes."""

    infos: tuple[TensorInfo, ...]
    data: dict[str, bytes]
    metadata: dict[str, str]

    def save(self, path: Path) -> None:
        """Write it."""
        with TensorWriter(path, self.infos, metadata=self.metadata) as writer:
            for name, data in self.data.items():
                writer.write(name, data)

    def factors(self) -> dict[str, Array]:
        """Give the LoRA factors."""
        return {
            info.name: np.frombuffer(self.data[info.name], TYPES[info.dtype])
            for info in self.infos
            if ".lora_" in info.name and info.size
        }


@st.composite
def adapters(draw: st.DrawFn) -> Made:
    """Make a raw LoRA file: pairs, lone factors, empty tensors and tensors of other types."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    infos: list[TensorInfo] = []
    for module in range(draw(st.integers(0, 4))):
        rank = draw(st.integers(1, 4))
        dtype = draw(st.sampled_from(sorted(TYPES)))
        sizes = draw(st.tuples(st.integers(0, 40), st.integers(1, 40)))
        infos.append(TensorInfo(f"l.{module}.q.lora_A.weight", dtype, (rank, sizes[0])))
        if draw(st.booleans()):
            infos.append(TensorInfo(f"l.{module}.q.lora_B.weight", dtype, (sizes[1], rank)))
    for number, dtype in enumerate(draw(st.lists(st.sampled_from(OTHER_TYPES), max_size=4))):
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
        infos.append(TensorInfo(f"other.{number}", dtype, shape))
    data = {}
    for info in infos:
        if ".lora_" in info.name:
            spread = draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0]))
            data[info.name] = (
                (spread * rng.normal(size=info.size)).astype(TYPES[info.dtype]).tobytes()
            )
        else:
            data[info.name] = rng.bytes(info.size_bytes)
    metadata = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
    metadata.pop("format", None)
    return Made(tuple(infos), data, metadata)


@settings(deadline=None, max_examples=60)
@given(
    made=adapters(),
    density=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
    scope=st.sampled_from(Scope),
    exact_count=st.booleans(),
)
def test_whatever_it_is_it_comes_back(
    made: Made,
    density: float,
    scope: Scope,
    exact_count: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    work = tmp_path_factory.mktemp("any")
    made.save(work / "lora.safetensors")
    method = Compeft(density, 1.5, scope, exact_count)
    try:
        report = compress_adapter(work / "lora.safetensors", work / "x.tern", method=method)
    except OptionError:
        assert exact_count
        return
    decompress(work / "x.tern", work / "back.safetensors")
    factors = made.factors()
    with TensorFile(work / "back.safetensors") as back:
        assert back.metadata == made.metadata
        assert {i.name: (i.dtype, i.shape) for i in back.tensors.values()} == {
            i.name: (i.dtype, i.shape) for i in made.infos
        }
        for info in made.infos:
            if info.name not in factors:
                assert back.read_bytes(info.name) == made.data[info.name]
        if not exact_count:
            check_factors({name: back.read(name) for name in factors}, factors, method)
    assert report.parameters == sum(value.size for value in factors.values())
    assert set(report.exact_tensors) == {info.name for info in made.infos} - set(factors)
    assert inspect(work / "x.tern").nonzero <= report.nonzero


def check_factors(back: dict[str, Array], factors: dict[str, Array], method: Compeft) -> None:
    """Compare signs with the published steps, and that one magnitude per group is left."""

    def group_of(key: str) -> str:
        names = {Scope.GLOBAL: "all", Scope.FACTOR: key.split(".")[-2], Scope.TENSOR: key}
        return names[method.scope]

    if not factors:
        return
    for key, (signs, _) in per_group(factors, group_of, method.density).items():
        value = back[key].astype(np.float64)
        assert len(set(np.abs(value[value != 0]))) <= 1
        if value.any():
            np.testing.assert_array_equal(np.sign(value), signs)


@settings(deadline=None, max_examples=15)
@given(made=adapters())
def test_the_parts_of_a_file_add_up(made: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    work = tmp_path_factory.mktemp("parts")
    made.save(work / "lora.safetensors")
    report = compress_adapter(work / "lora.safetensors", work / "x.tern", method=Compeft())
    with TernFile(work / "x.tern") as tern:
        assert sum(tern.part_bytes.values()) == tern.size_bytes == report.size.total
        assert tern.part_bytes["exact"] == report.size.exact
        coded = sum(len(segment) for segment in tern.segments())
        assert coded == report.parameters
