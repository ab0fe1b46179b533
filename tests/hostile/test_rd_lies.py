"""Forge files with layers whose every checksum is right but whose claims are not."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.forged_layers import Parts, put_together, take_apart
from compress import Heads, Rd, compress_adapter, decompress, heads
from compress.container import Stored, in_table_order
from compress.container_read import TernFile
from compress.errors import TernDamagedError, TernError, TernTooLargeError
from compress.layers import Layers, Unit
from compress.lora import Role
from compress.rate_distortion import models, pairs, segment, side
from compress.rate_distortion.layout import Component, arrange
from compress.tensor_file import TensorFile, TensorInfo

A, B, HEAD = "l.0.q.lora_A.weight", "l.0.q.lora_B.weight", "score.weight"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Take a right file of three layers and a rounded head apart."""
    rng = np.random.default_rng(0)
    tensors = {
        A: rng.normal(size=(4, 40)).astype(np.float32),
        B: rng.normal(size=(30, 4)).astype(np.float32),
        "l.1.q.lora_A.weight": rng.normal(size=(2, 40)).astype(np.float32),
        "l.1.q.lora_B.weight": rng.normal(size=(30, 2)).astype(np.float32),
        HEAD: rng.normal(size=(20, 60)).astype(np.float32),
        "bias": rng.normal(size=9).astype(np.float32),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    method = Rd(layers=3, heads=Heads.INT8)
    compress_adapter(tmp_path / "x.safetensors", tmp_path / "x.tern", method=method)
    return take_apart(tmp_path / "x.tern")


def layers_of(parts: Parts) -> Layers:
    """Give how the layers of a file lie."""
    assert parts.index.layers is not None
    return parts.index.layers


def with_layers(parts: Parts, **changes: object) -> Parts:
    """Let the index say something else about the layers."""
    changed = replace(layers_of(parts), **changes)  # type: ignore[arg-type]  # lies of any type
    return replace(parts, index=replace(parts.index, layers=changed))


def with_tensor(parts: Parts, name: str, *shape: int, dtype: str = "F32") -> Parts:
    """Let the index say something else about one tensor."""
    tensors = [
        replace(t, info=TensorInfo(name, dtype, shape)) if t.info.name == name else t
        for t in parts.index.tensors
    ]
    return replace(parts, index=replace(parts.index, tensors=tuple(tensors)))


def decode(parts: Parts, folder: Path, *, layers: int | None = None) -> dict[str, bytes]:
    """Write a forged file and decode it."""
    path, out = folder / "forged.tern", folder / "out.safetensors"
    path.write_bytes(put_together(parts))
    decompress(path, out, max_decoded_bytes=1 << 30, layers=layers)
    with TensorFile(out) as file:
        return {name: file.read_bytes(name) for name in file.tensors}


def refuse(parts: Parts, folder: Path) -> None:
    """Expect a clear error, and nothing left behind."""
    with pytest.raises(TernError) as caught:
        decode(parts, folder)
    assert len(str(caught.value)) < 600
    assert not (folder / "out.safetensors").exists()


def test_putting_together_what_was_taken_apart_is_right(parts: Parts, tmp_path: Path) -> None:
    assert put_together(parts) == (tmp_path / "x.tern").read_bytes()
    assert set(decode(parts, tmp_path)) == {t.info.name for t in parts.index.tensors}


@pytest.mark.parametrize(
    "changes",
    [
        {"modules": (1,)},
        {"modules": (3,)},
        {"modules": (1, 1)},
        {"modules": (0,)},
        {"sides": (0,)},
        {"sides": (1 << 40,)},
        {"unit": Unit(0.0, 64)},
        {"unit": Unit(-1.0, 64)},
        {"unit": Unit(float("nan"), 64)},
        {"unit": Unit(float("inf"), 64)},
        {"unit": Unit(1.0, 0)},
        {"gain": 0.0},
        {"gain": float("nan")},
        {"errors": (float("nan"), 0.1, 0.1)},
        {"errors": (-1.0, 0.1, 0.1)},
    ],
    ids=str,
)
def test_what_the_index_says_of_layers_must_make_sense(
    changes: dict[str, object], parts: Parts, tmp_path: Path
) -> None:
    refuse(with_layers(parts, **changes), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:2],
        lambda rows: (*rows, (0,)),
        lambda rows: rows[::-1],
        lambda rows: ((rows[0][0] + 1,), *rows[1:]),
        lambda rows: ((rows[0][0] + 1,), (rows[1][0] - 1,), rows[2]),
        lambda rows: ((1 << 62,), *rows[1:]),
        lambda rows: (*rows[:2], (0,)),
    ],
    ids=range(7),
)
def test_blocks_of_other_sizes_are_refused(
    change: Callable[[tuple[tuple[int, ...], ...]], tuple[tuple[int, ...], ...]],
    parts: Parts,
    tmp_path: Path,
) -> None:
    rows = change(layers_of(parts).blocks)
    count = len(rows)
    changed = with_layers(parts, blocks=rows, errors=(0.1,) * count)
    pieces = (*parts.layers, b"")[:count]
    refuse(replace(changed, layers=pieces), tmp_path)


@pytest.mark.parametrize(
    "shape",
    [(4, 41), (4, 39), (3, 40), (1, 40), (4, 1 << 40), (1 << 40, 40), (4,), (4, 0), (0, 40)],
    ids=str,
)
def test_other_shapes_are_refused(shape: tuple[int, ...], parts: Parts, tmp_path: Path) -> None:
    refuse(with_tensor(parts, A, *shape), tmp_path)


def test_types_that_values_do_not_fit_are_refused(parts: Parts, tmp_path: Path) -> None:
    loud = with_layers(parts, gain=1e30)
    refuse(with_tensor(loud, A, 4, 40, dtype="F16"), tmp_path)


@pytest.mark.parametrize("gain", [1e300, 1e-300])
def test_absurd_gains_give_an_error_or_finite_values(
    gain: float, parts: Parts, tmp_path: Path
) -> None:
    """Warnings are errors here, so nothing overflows unnoticed either."""
    try:
        back = decode(with_layers(parts, gain=gain), tmp_path)
    except TernError:
        return
    assert all(np.isfinite(np.frombuffer(back[name], np.float32)).all() for name in (A, B))


@pytest.mark.parametrize("at", range(3))
def test_swapped_or_emptied_layers_are_refused(at: int, parts: Parts, tmp_path: Path) -> None:
    pieces = list(parts.layers)
    pieces[at] = bytes(len(pieces[at]))
    refuse(replace(parts, layers=tuple(pieces)), tmp_path)


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one byte."""
    changed = bytearray(data)
    changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
    return bytes(changed)


@pytest.mark.parametrize("part", ["exact", "heads", "layers"])
def test_resealed_damage_never_crashes(part: str, parts: Parts, tmp_path: Path) -> None:
    """Right shapes or a `TernError`: nothing else may come of changed bytes."""
    rng = np.random.default_rng(len(part))
    for number in range(60):
        if part == "layers":
            pieces = list(parts.layers)
            at = int(rng.integers(len(pieces)))
            pieces[at] = flipped(pieces[at], rng)
            forged = replace(parts, layers=tuple(pieces))
        elif part == "heads":
            forged = replace(parts, heads=flipped(parts.heads, rng))
        else:
            forged = replace(parts, exact=flipped(parts.exact, rng))
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            back = decode(forged, folder)
        except TernError:
            continue
        assert {name: len(data) for name, data in back.items()} == {
            t.info.name: t.info.size_bytes for t in parts.index.tensors
        }


def test_damage_without_a_new_seal_is_always_noticed(parts: Parts, tmp_path: Path) -> None:
    data = put_together(parts)
    start = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "damaged.tern"
    for at in range(start, len(data), 11):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(TernDamagedError):
            TernFile(path)


def one_component(parts: Parts, energy: int, gain: int, coded: segment.Coded) -> Parts:
    """Forge a file of one module with one component of known blocks."""
    sizes = (30, 40)
    component = Component(0, energy, sizes)
    written = side.write(side.Side((component,), (gain,), coded.planes), 1)
    kept = [t for t in parts.index.tensors if t.info.name in {A, B}]
    described = replace(
        layers_of(parts),
        modules=(1,),
        sides=(len(written),),
        blocks=tuple((len(block),) for block in coded.blocks),
        errors=(0.5,) * len(coded.blocks),
    )
    index = replace(parts.index, tensors=in_table_order(kept), layers=described)
    pieces = (written + coded.blocks[0], *coded.blocks[1:])
    return Parts(parts.metadata, index, b"", b"", pieces)


@pytest.mark.parametrize(
    ("energy", "gain"), [(-256, 1 << 14), (-1024, 1 << 14), (256, -(1 << 14)), (-200, 900)]
)
def test_extremes_of_energy_and_gain_never_overflow(
    energy: int, gain: int, parts: Parts, tmp_path: Path
) -> None:
    """Each may be as large as is allowed; together they are refused or give finite values."""
    layout = arrange([Component(0, energy, (30, 40))])
    targets = np.linspace(-3, 3, layout.size).astype(np.float32)
    forged = one_component(parts, energy, gain, segment.encode(targets, layout))
    try:
        back = decode(forged, tmp_path)
    except TernError:
        assert (energy, gain) != (-200, 900)
        return
    assert all(np.isfinite(np.frombuffer(back[name], np.float32)).all() for name in (A, B))


def test_many_values_in_one_lane_are_refused() -> None:
    """A plane of millions of pairs in one lane would take millions of rows of Python.

    An encoder takes so many lanes that there are at most 2048 rows, or 8192 lanes.
    """
    count = 1 << 14
    layout = arrange([Component(0, -20, (count,))])
    model = models.ClassModel(1, np.zeros((1, 2, 3, 2), np.uint8), np.zeros(0))
    chances = models.write(model, 0)
    tables = pairs.build_tables([models.read(chances, 1, 0)], [1], finest=True)
    contexts = pairs.contexts(tables, np.zeros(count, np.int16), layout.bounds)
    digits = np.zeros(count, np.int16)
    for lanes, right in ((4, True), (1, False)):
        coded = pairs.encode(digits, contexts, tables, lanes=lanes)
        block = chances + struct.pack("<HI", lanes, len(coded.words)) + coded.tobytes()
        if right:
            assert not segment.decode([block], layout, [1]).any()
        else:
            with pytest.raises(TernDamagedError, match="lanes"):
                segment.decode([block], layout, [1])


def test_a_head_bomb_is_refused_in_little_memory(parts: Parts, tmp_path: Path) -> None:
    """Zeros deflate well: 64 MiB of float32 in some hundred bytes, and 64 GiB would come next."""
    values = np.zeros(1 << 24, np.float32)
    block = heads.encode(values, 8)
    kept = in_table_order([Stored(TensorInfo(HEAD, "F8_E5M2", (len(values),)), Role.HEAD)])
    described = replace(layers_of(parts), modules=(), sides=(), blocks=(), errors=())
    index = replace(parts.index, tensors=kept, layers=described)
    forged = Parts(parts.metadata, index, b"", block, ())
    assert len(block) < 4096
    tracemalloc.start()
    try:
        decode(forged, tmp_path)
    except TernTooLargeError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("layers", [1, 2])
def test_a_cut_file_with_lies_beyond_the_cut_decodes_what_is_there(
    layers: int, parts: Parts, tmp_path: Path
) -> None:
    """What is not wanted is not read: only the layers that are used must be right."""
    right = decode(parts, tmp_path, layers=layers)
    (tmp_path / "out.safetensors").unlink()
    data = bytearray(put_together(parts))
    data[-1] ^= 1
    (tmp_path / "damaged.tern").write_bytes(data)
    decompress(tmp_path / "damaged.tern", tmp_path / "out.safetensors", layers=layers)
    with TensorFile(tmp_path / "out.safetensors") as file:
        assert {name: file.read_bytes(name) for name in file.tensors} == right
