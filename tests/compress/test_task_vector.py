"""Check which tensors form the task vector of each PEFT type, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from compress.adapter import LoraSettings
from compress.errors import NonFiniteError
from compress.lora import Role
from compress.task_vector import (
    CHUNK,
    TREATMENTS,
    Initial,
    Part,
    TaskVector,
    classify,
    find_parts,
    is_sparse_delta,
    reason,
)
from compress.tensor_file import TensorInfo
from compress.weights import open_weights
from registry.validation.adapter_kinds import is_sparse_delta as registry_is_sparse
from registry.validation.tensor_info import TensorInfo as RegistryTensor

MakeRaw = Callable[..., Path]


def test_every_peft_type_has_a_row() -> None:
    peft = pytest.importorskip("peft")
    assert {member.value for member in peft.PeftType} == set(TREATMENTS)


def test_every_row_has_a_reason() -> None:
    assert all(treatment.reason for treatment in TREATMENTS.values())
    assert "not known" in reason(LoraSettings("MADE_UP"), [])
    assert "no config" in reason(LoraSettings(), [])


@pytest.mark.parametrize(
    ("peft_type", "name", "role", "initial"),
    [
        ("LORA", "m.q.lora_A.weight", Role.A, Initial.ZERO),
        ("LORA", "m.q.lora_B.weight", Role.B, Initial.ZERO),
        ("LORA", "m.e.lora_embedding_A", Role.A, Initial.ZERO),
        ("ADALORA", "m.q.lora_A", Role.A, Initial.ZERO),
        ("IA3", "m.k.ia3_l", Role.OTHER, Initial.ONE),
        ("LOHA", "m.q.hada_w1_a", Role.A, Initial.ZERO),
        ("LOHA", "m.q.hada_w2_b", Role.B, Initial.ZERO),
        ("LOHA", "m.q.hada_t1", Role.OTHER, Initial.ZERO),
        ("LOKR", "m.q.lokr_w1", Role.A, Initial.ZERO),
        ("LOKR", "m.q.lokr_w2_b", Role.B, Initial.ZERO),
        ("OFT", "m.q.oft_R.weight", Role.OTHER, Initial.ZERO),
        ("BOFT", "m.q.boft_s", Role.OTHER, Initial.ONE),
        ("VERA", "m.q.vera_lambda_b", Role.OTHER, Initial.ZERO),
        ("SHIRA", "m.q.shira_weight", Role.OTHER, Initial.ZERO),
        ("ROAD", "m.q.road_alpha", Role.OTHER, Initial.ONE),
        ("POLY", "m.q.poly_lora_B", Role.B, Initial.ZERO),
        ("", "unet:3:up", Role.B, Initial.ZERO),
        ("", "x.hada_w1_b", Role.B, Initial.ZERO),
        ("", "x.lora_down.weight", Role.A, Initial.ZERO),
    ],
)
def test_tensors_of_the_task_vector(
    peft_type: str, name: str, role: Role, initial: Initial
) -> None:
    info = TensorInfo(name, "F32", (3, 4))
    assert classify(info, LoraSettings(peft_type)) == Part(info, role, initial)


@pytest.mark.parametrize(
    ("peft_type", "name", "dtype"),
    [
        ("LORA", "m.classifier.weight", "F32"),
        ("LORA", "m.q.lora_B.bias", "F32"),
        ("LORA", "m.q.lora_magnitude_vector", "F32"),
        ("LORA", "m.q.lora_A.weight", "I32"),
        ("LORA", "m.q.lora_A.weight", "F8_E4M3FNUZ"),
        ("ADALORA", "m.q.lora_E", "F32"),
        ("ADALORA", "m.q.ranknum", "F32"),
        ("VERA", "m.q.vera_lambda_d", "F32"),
        ("SHIRA", "m.q.shira_indices", "I32"),
        ("PROMPT_TUNING", "prompt_embeddings", "F32"),
        ("LN_TUNING", "m.ln.weight", "F32"),
        ("MADE_UP", "m.q.lora_A.weight", "F32"),
        ("", "<s1>", "F32"),
        ("", "x.alpha", "F32"),
    ],
)
def test_tensors_that_are_kept(peft_type: str, name: str, dtype: str) -> None:
    assert classify(TensorInfo(name, dtype, (3, 4)), LoraSettings(peft_type)) is None


def test_empty_tensors_are_kept() -> None:
    info = TensorInfo("m.q.lora_A.weight", "F32", (0, 4))
    assert classify(info, LoraSettings("LORA")) is None


def part(name: str, dtype: str, size: int, initial: Initial = Initial.ZERO) -> Part:
    """Make a part."""
    return Part(TensorInfo(name, dtype, (size,)), Role.OTHER, initial)


def test_initial_values_are_taken_off(make_raw: MakeRaw) -> None:
    ones = make_raw({"x": np.array([0.5, 1, 3], np.float16)}, name="a.safetensors")
    base = make_raw({"x": np.array([0.25, 1, 1], np.float32)}, name="b.safetensors")
    with open_weights([ones]) as weights, open_weights([base]) as base_weights:
        for initial, expected in (
            (Initial.ZERO, [0.5, 1, 3]),
            (Initial.ONE, [-0.5, 0, 2]),
            (Initial.BASE, [0.25, 0, 2]),
        ):
            vector = TaskVector(weights, [part("x", "F16", 3, initial)], base=base_weights)
            values = vector.read(vector.parts[0])
            assert values.dtype == np.float32
            assert values.tolist() == expected


def test_chunks_cover_every_element_in_order(make_raw: MakeRaw) -> None:
    size = 2 * CHUNK + 17
    path = make_raw({"b": np.arange(size, dtype=np.float32), "a": np.zeros(5, np.float32)})
    with open_weights([path]) as weights:
        vector = TaskVector(weights, [part("b", "F32", size), part("a", "F32", 5)])
        assert vector.size == size + 5
        pieces = list(vector.chunks(vector.parts))
    assert [(p.info.name, start, len(values)) for p, start, values in pieces] == [
        ("a", 0, 5),
        ("b", 0, CHUNK),
        ("b", CHUNK, CHUNK),
        ("b", 2 * CHUNK, 17),
    ]
    np.testing.assert_array_equal(
        np.concatenate([values for _, _, values in pieces[1:]]), np.arange(size)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_values_that_are_not_finite_are_refused(bad: float, dtype: Any, make_raw: MakeRaw) -> None:
    values = np.ones(100, dtype)
    values[57] = bad
    names = {np.float32: "F32", np.float16: "F16", np.float64: "F64"}
    with open_weights([make_raw({"x.lora_A": values})]) as weights:
        vector = TaskVector(weights, [part("x.lora_A", names[dtype], 100)])
        with pytest.raises(NonFiniteError) as caught:
            vector.read(vector.parts[0])
    assert caught.value.field == "x.lora_A"
    assert caught.value.file == "lora.safetensors"


def test_the_largest_values_are_finite(make_raw: MakeRaw) -> None:
    values = np.array([np.finfo(np.float32).max, np.finfo(np.float32).min], np.float32)
    with open_weights([make_raw({"x": values})]) as weights:
        vector = TaskVector(weights, [part("x", "F32", 2)])
        np.testing.assert_array_equal(vector.read(vector.parts[0]), values)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    from compress.tensor_file import TensorWriter

    values = np.array([0.1, -2.5, 1e-30], ml_dtypes.bfloat16)
    path = tmp_path / "x.safetensors"
    with TensorWriter(path, [TensorInfo("x", "BF16", (3,))], metadata={}) as writer:
        writer.write("x", values.tobytes())
    with open_weights([path]) as weights:
        vector = TaskVector(weights, [part("x", "BF16", 3)])
        np.testing.assert_array_equal(vector.read(vector.parts[0]), values.astype(np.float32))


def test_progress_counts_elements(make_raw: MakeRaw) -> None:
    seen: list[tuple[int, int]] = []
    with open_weights([make_raw({"x": np.ones(10, np.float32)})]) as weights:
        vector = TaskVector(weights, [part("x", "F32", 10)])
        vector.watch(lambda done, total: seen.append((done, total)), passes=2)
        list(vector.chunks(vector.parts))
        list(vector.chunks(vector.parts))
        list(vector.chunks(vector.parts))
        vector.finish()
    assert seen == [(10, 20), (20, 20), (20, 20), (20, 20)]


def delta(more: dict[str, tuple[str, tuple[int, ...]]] | None = None) -> list[TensorInfo]:
    """Describe a sparse delta of one tensor, some of it replaced."""
    found = {"x.indices": ("I32", (5,)), "x.values": ("F16", (5,)), **(more or {})}
    return [TensorInfo(name, dtype, shape) for name, (dtype, shape) in found.items()]


def registry_agrees(infos: list[TensorInfo]) -> bool:
    """Ask the hub's own rule, which looks for LoRA names first."""
    theirs = [RegistryTensor(i.name, i.dtype, i.shape, 0, i.size_bytes) for i in infos]
    named = any("lora" in info.name for info in infos)
    return not named and registry_is_sparse(theirs)


def test_the_values_of_a_sparse_delta_are_its_task_vector() -> None:
    infos = delta()
    assert is_sparse_delta(infos)
    assert registry_agrees(infos)
    assert find_parts(infos, LoraSettings()) == [Part(infos[1], Role.OTHER, Initial.ZERO)]
    assert "sparse delta" in reason(LoraSettings(), infos)
    assert find_parts(infos, LoraSettings("LORA")) == []
    empty = delta({"x.indices": ("I32", (0,)), "x.values": ("F16", (0,))})
    assert is_sparse_delta(empty)
    assert find_parts(empty, LoraSettings()) == []


@pytest.mark.parametrize(
    "more",
    [
        {"x.indices": ("I32", ())},
        {"x.indices": ("I32", (4,))},
        {"x.indices": ("F32", (5,))},
        {"x.values": ("I32", (5,))},
        {"y": ("F32", (5,))},
        {"y.indices": ("I32", (5,)), "z.values": ("F32", (5,))},
        {"y.lora_A.indices": ("I32", (5,)), "y.lora_A.values": ("F32", (5,))},
    ],
)
def test_what_is_no_sparse_delta(more: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    assert not is_sparse_delta(delta(more))
    assert not registry_agrees(delta(more))


def test_plain_weights_are_kept_with_a_hint() -> None:
    infos = [TensorInfo("model.q.weight", "F32", (3, 4))]
    assert find_parts(infos, LoraSettings()) == []
    assert "base model" in reason(LoraSettings(), infos)
    assert "LoRA factors" in reason(LoraSettings(), [TensorInfo("q.lora_A", "F32", (3, 4))])
