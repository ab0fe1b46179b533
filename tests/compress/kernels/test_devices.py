"""Check that files and tensors are the same, bit for bit, whoever makes them.

The GPU of these tests is the device that the kernels are tested on: the CPU, in the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

import compress
from compress import (
    Compeft,
    Heads,
    Lossless,
    Rd,
    Scope,
    compress_adapter,
    decode_tensors,
    decompress,
    resident,
)
from compress import backend as backends
from compress.container_read import TernFile
from compress.dtypes import WEIGHT_DTYPES
from compress.errors import BaseMismatchError, OptionError, TernDamagedError, TernTooLargeError
from compress.kernels import backend as kernels
from compress.kernels.tensors import MAX_ELEMENTS
from compress.rate_distortion import decoder
from compress.tensor_file import TensorFile
from tests.compress.kernels.conftest import DEVICE
from tests.compress.kernels.plane_segments import lanes_of
from tests.compress.rate_distortion import made
from tests.compress.rate_distortion.test_golden import LAYERED

Array = NDArray[Any]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the device of the kernels for a GPU."""
    monkeypatch.setattr(kernels, "on_gpu", lambda _: kernels.KernelBackend(DEVICE))
    with lanes_of(48, grouped=True):
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an adapter of three types of weights with a head and what is kept exactly."""
    tensors = made.factors(5, modules=3, rank=3, sizes=(20, 24))
    for name in list(tensors):
        if ".1.q" in name:
            tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
        if ".2.q.lora_B" in name:
            tensors[name] = tensors[name].astype(np.float16)
    tensors["base_model.model.score.weight"] = np.sin(np.arange(1120)).reshape(16, 70)
    tensors["base_model.model.score.weight"] = tensors["base_model.model.score.weight"].astype("f4")
    tensors["base_model.model.steps"] = np.array([[7, -1]])
    tensors["base_model.model.mask"] = np.array([True, False])
    return made.save(tmp_path_factory.mktemp("adapter") / "source", tensors)


METHODS: dict[str, Compeft | Lossless | Rd] = {
    "rd": Rd(layers=3, heads=Heads.INT8),
    "compeft": Compeft(density=0.3),
    "tensor": Compeft(density=0.3, scope=Scope.TENSOR),
    "lossless": Lossless(),
}


@pytest.mark.parametrize("name", ["rd", "compeft", "tensor"])
def test_the_file_is_the_same(name: str, source: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        compress_adapter(source, tmp_path / f"{device}.tern", method=METHODS[name], device=device)
    assert (tmp_path / "cpu.tern").read_bytes() == (tmp_path / "cuda.tern").read_bytes()


@pytest.mark.parametrize("name", METHODS)
def test_what_comes_back_is_the_same(name: str, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tern"
    compress_adapter(source, file, method=METHODS[name])
    for device in ("cpu", "cuda:0"):
        decompress(file, tmp_path / device, device=device)
    weights = [(tmp_path / device / WEIGHTS).read_bytes() for device in ("cpu", "cuda:0")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("layers", [1, 2])
def test_a_coarser_adapter_is_the_same(layers: int, tmp_path: Path) -> None:
    file = tmp_path / "x.tern"
    file.write_bytes(LAYERED)
    for device in ("cpu", "cuda"):
        decompress(file, tmp_path / device, device=device, layers=layers)
    weights = [(tmp_path / device / WEIGHTS).read_bytes() for device in ("cpu", "cuda")]
    assert weights[0] == weights[1]


def raw(values: Any) -> bytes:
    """Give the bytes of an array or a tensor."""
    if isinstance(values, torch.Tensor):
        return values.contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes()
    return bytes(values.tobytes())


def check_resident(files: list[Path], tmp_path: Path, *, layers: int | None = None) -> None:
    """Compare what is in memory with what is written to disk, on both devices."""
    for device in ("cpu", "cuda"):
        adapters = decode_tensors(files, device=device, layers=layers)
        assert len(adapters) == len(files)
        for number, (file, tensors) in enumerate(zip(files, adapters, strict=True)):
            out = tmp_path / f"{device}{number}"
            decompress(file, out, layers=layers)
            with TensorFile(out / WEIGHTS) as written:
                assert tensors.keys() == written.tensors.keys()
                for name, info in written.tensors.items():
                    assert tuple(tensors[name].shape) == info.shape
                    assert raw(tensors[name]) == written.read_bytes(name)
                    assert isinstance(tensors[name], torch.Tensor) == (device == "cuda")


def test_adapters_of_all_methods_are_resident_together(source: Path, tmp_path: Path) -> None:
    files = []
    for name, method in METHODS.items():
        files.append(tmp_path / f"{name}.tern")
        compress_adapter(source, files[-1], method=method)
    check_resident(files, tmp_path)


@pytest.mark.parametrize("layers", [1, 3])
def test_layers_are_resident(layers: int, tmp_path: Path) -> None:
    (tmp_path / "x.tern").write_bytes(LAYERED)
    check_resident([tmp_path / "x.tern"], tmp_path, layers=layers)


def test_types_and_shapes_are_torchs_own(source: Path, tmp_path: Path) -> None:
    compress_adapter(source, tmp_path / "x.tern", method=METHODS["rd"])
    (tensors,) = decode_tensors([tmp_path / "x.tern"], device="cuda")
    found = {name.removeprefix(f"{made.PREFIX}."): value.dtype for name, value in tensors.items()}
    assert found["0.q.lora_A.weight"] == torch.float32
    assert found["1.q.lora_A.weight"] == torch.bfloat16
    assert found["2.q.lora_B.weight"] == torch.float16
    assert found["base_model.model.steps"] == torch.int64
    assert found["base_model.model.mask"] == torch.bool
    assert tensors[f"{made.PREFIX}.1.q.lora_A.weight"].shape == (3, 24)


def test_no_adapters_are_no_adapters() -> None:
    assert decode_tensors([], device="cuda") == []


def test_batches_are_as_large_as_they_may_be(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.tern"
    compress_adapter(source, file, method=METHODS["rd"])
    with TernFile(file) as tern:
        (coded,) = decoder.read(tern)
    assert [len(batch) for batch in backends.batches([coded] * 5)] == [5]
    size = sum(tensor.info.size for tensor in coded.tensors)
    monkeypatch.setattr(backends, "BATCH_VALUES", 2 * size)
    assert [len(batch) for batch in backends.batches([coded] * 5)] == [2, 2, 1]
    assert [len(batch) for batch in backends.batches([coded] * 3, values=1)] == [1, 1, 1]
    monkeypatch.setattr(resident, "_VALUES_TOGETHER", 2 * size)
    check_resident([file] * 3, tmp_path)


def test_all_together_may_not_be_too_large(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tern"
    compress_adapter(source, file, method=METHODS["rd"])
    with TernFile(file) as tern:
        size_bytes = sum(tensor.info.size_bytes for tensor in tern.index.tensors)
    assert len(decode_tensors([file, file], max_decoded_bytes=2 * size_bytes)) == 2
    with pytest.raises(TernTooLargeError):
        decode_tensors([file, file], max_decoded_bytes=2 * size_bytes - 1)


def test_damage_is_noticed_on_every_device(tmp_path: Path) -> None:
    (tmp_path / "x.tern").write_bytes(LAYERED[:-9] + b"damaged!!")
    for device in ("cpu", "cuda"):
        with pytest.raises(TernDamagedError):
            decode_tensors([tmp_path / "x.tern"], device=device)


def test_a_residual_needs_its_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(size=(40, 30)).astype(np.float32)}
    model = {"w": base["w"] + rng.normal(0, 0.01, (40, 30)).astype(np.float32)}
    for name, tensors in (("base", base), ("model", model)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    for device in ("cpu", "cuda"):
        compress.compress_residual(
            tmp_path / "model.safetensors",
            tmp_path / "base.safetensors",
            tmp_path / f"{device}.tern",
            device=device,
        )
        out = tmp_path / f"{device}.safetensors"
        decompress(tmp_path / "cpu.tern", out, base=tmp_path / "base.safetensors", device=device)
        with pytest.raises(BaseMismatchError, match="--base"):
            decode_tensors([tmp_path / "cpu.tern"], device=device)
    assert (tmp_path / "cpu.tern").read_bytes() == (tmp_path / "cuda.tern").read_bytes()
    written = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("cpu", "cuda")]
    assert written[0] == written[1]


@pytest.mark.parametrize("function", ["compress", "residual", "decompress", "decode"])
def test_an_unknown_device_is_refused_before_anything_is_read(
    function: str, tmp_path: Path
) -> None:
    nothing, out = tmp_path / "nothing", tmp_path / "out"
    calls: dict[str, Any] = {
        "compress": lambda: compress_adapter(nothing, out, device="tpu"),
        "residual": lambda: compress.compress_residual(nothing, nothing, out, device="tpu"),
        "decompress": lambda: decompress(nothing, out, device="tpu"),
        "decode": lambda: decode_tensors([nothing], device="tpu"),
    }
    with pytest.raises(OptionError, match="unknown"):
        calls[function]()


def pieces_of(dtype: type[Any]) -> Any:
    """Give chunks of a vector with ties, as a task vector does."""
    values = np.random.default_rng(0).integers(-9, 10, 3000).astype(dtype) / 8
    return lambda: iter(np.split(values, [1000, 1777]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [0, 1, 1500, 3000])
def test_surveys_are_the_same_bits(rank: int, dtype: type[Any]) -> None:
    gpu, cpu = backends.choose("cuda"), backends.choose()
    chunks = pieces_of(dtype)
    assert gpu.survey_chunks(chunks, rank) == cpu.survey_chunks(chunks, rank)


def test_what_is_too_large_for_a_device_is_surveyed_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "MAX_ELEMENTS", 2999)
    assert MAX_ELEMENTS > 2999
    gpu, cpu = backends.choose("cuda"), backends.choose()
    chunks = pieces_of(np.float32)
    assert gpu.survey_chunks(chunks, 10) == cpu.survey_chunks(chunks, 10)


@pytest.mark.parametrize("dtype", [*WEIGHT_DTYPES, "bool", "u1", "i2", "u4", "i8", "c8"])
def test_arrays_of_every_type_go_to_the_device(dtype: str) -> None:
    kind = WEIGHT_DTYPES.get(dtype) or np.dtype(dtype)
    array = np.arange(6).reshape(2, 3).astype(kind)
    there = backends.choose("cuda").on_device(array)
    assert there.shape == (2, 3)
    assert raw(there) == array.tobytes()
    if dtype in WEIGHT_DTYPES:
        back = backends.choose("cuda").on_host(there.view(-1))
        assert back.dtype == kind
        assert back.tobytes() == array.tobytes()


def test_arrays_that_torch_does_not_know_are_refused() -> None:
    with pytest.raises(OptionError, match="no kernel for this type"):
        backends.choose("cuda").on_device(np.array(["a"]))


def test_the_public_names_are_there() -> None:
    assert compress.decode_tensors is decode_tensors
