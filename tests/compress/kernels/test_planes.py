"""Check the kernels that decode layers against the reference, and that they believe nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.dtypes import bit_view
from compress.errors import OptionError, TernDamagedError
from compress.kernels import factor_plans, plane_batches, planes
from compress.kernels.backend import KernelBackend
from compress.numpy_backend import NumpyBackend
from compress.rate_distortion import segment
from compress.rate_distortion.decoder import Coded
from compress.rate_distortion.trellis import FOLLOWING
from compress.task_vector import Initial
from tests.compress.kernels.plane_segments import (
    Module,
    anatomy,
    coded_segment,
    patched,
    with_block,
)

Array = NDArray[Any]
BLOCK = 32
#: Three classes of four, two and one plane, the last beginning in the middle of a row.
RICH = (Module((23, 41), (15, 8)), Module((30, 18), (3,)))


def levels_of(coded: list[Coded], device: str) -> list[Array]:
    """Decode values in steps, or what coarse planes make of them, by segment."""
    batch = plane_batches.upload(coded, device)
    levels = planes.decode_planes(batch).cpu().numpy()
    found = []
    for place in batch.places:
        known = levels[2 * place.first : 2 * (place.first + place.known)]
        spans = np.diff(np.append(place.starts, place.known))
        values = np.zeros(2 * place.pairs, np.float32)
        values[: len(known)] = known * np.repeat(place.scales, 2 * spans)
        found.append(values)
    return found


def expected(coded: Coded) -> Array:
    """Decode with the reference."""
    return segment.decode(coded.blocks, coded.layout, coded.planes)


def check(coded: list[Coded], kernels: KernelBackend) -> None:
    """Compare every bit of every tensor."""
    found = kernels.decode_layers(coded)
    right = NumpyBackend().decode_layers(coded)
    assert len(found) == len(right) == sum(len(one.tensors) for one in coded)
    for values, reference in zip(found, right, strict=True):
        host = kernels.on_host(values)
        assert host.dtype == reference.dtype
        assert bit_view(host).tolist() == bit_view(reference).tolist()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("pairs", [1, BLOCK - 1, BLOCK, BLOCK + 1, 101])
def test_kernel_equals_reference(pairs: int, grouped: bool, device: str) -> None:
    coded = coded_segment([Module((2 * pairs,), (9,))], grouped=grouped, seed=pairs)
    assert levels_of([coded], device)[0].tolist() == expected(coded).tolist()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("lanes", [1, 31, 32, 33, 129])
def test_any_number_of_lanes(lanes: int, grouped: bool, device: str) -> None:
    module = Module((2 * min(2 * lanes + 1, lanes + 40),), (9,))
    coded = coded_segment([module], lanes=lanes, grouped=grouped)
    assert anatomy(coded).lanes == lanes
    assert levels_of([coded], device)[0].tolist() == expected(coded).tolist()


@pytest.mark.parametrize("grouped", [False, True])
def test_classes_and_planes(grouped: bool, device: str) -> None:
    coded = coded_segment(RICH, lanes=48, grouped=grouped)
    assert len(set(coded.planes)) >= 3
    assert max(coded.planes) >= 4
    assert levels_of([coded], device)[0].tolist() == expected(coded).tolist()


def test_a_prefix_is_what_the_reference_makes_of_it(kernels: KernelBackend, device: str) -> None:
    whole = coded_segment(RICH, lanes=64)
    for count in range(len(whole.blocks)):
        coded = replace(whole, blocks=whole.blocks[:count])
        assert levels_of([coded], device)[0].tolist() == expected(coded).tolist()
        check([coded], kernels)


def test_segments_of_all_kinds_decode_in_one_call(kernels: KernelBackend) -> None:
    whole = coded_segment(RICH, lanes=40, grouped=True)
    check(
        [
            whole,
            coded_segment([Module((9, 5), ())]),
            coded_segment([Module((70,), (4,), dtypes=("F16",))], lanes=9),
            replace(whole, blocks=whole.blocks[:2]),
            coded_segment([Module((64, 64), (12,), rank=1)], lanes=33, grouped=True),
        ],
        kernels,
    )


def test_nothing_decodes_to_nothing(kernels: KernelBackend) -> None:
    assert kernels.decode_layers([]) == []


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2"])
def test_every_storage_type(dtype: str, kernels: KernelBackend) -> None:
    vectors = [
        Module((33,), (6,), dtypes=(dtype,), initial=initial)
        for initial in (Initial.ZERO, Initial.ONE)
    ]
    modules = [Module((16, 24), (7, 5), dtypes=(dtype, dtype)), *vectors]
    check([coded_segment(modules, lanes=64)], kernels)


@pytest.mark.parametrize("rank", [1, 2, 3, 8, 65])
@pytest.mark.parametrize("sizes", [(8, 16), (257, 3), (5, 1025)])
def test_every_shape_of_factors(rank: int, sizes: tuple[int, int], kernels: KernelBackend) -> None:
    """Only the factors take time here: a module of rank 65 has two components and zeros."""
    module = Module(sizes, (4, 2)[:rank], rank=rank, dtypes=("BF16", "F16"))
    check([coded_segment([module], lanes=1 << 12)], kernels)


def test_a_claimed_rank_makes_no_work(kernels: KernelBackend) -> None:
    """What nothing describes is zero, and no program is started and no record kept for it."""
    claimed = coded_segment([Module((1, 1), (2,), rank=1 << 16, dtypes=("F32", "F32"))])
    batch = plane_batches.upload([claimed], "cpu")
    (plan,) = factor_plans.plan_factors([claimed], batch.places).values()
    sources, _ = plan.records()
    assert len(sources) == 2
    assert sum(len(launch.table) for launch in plan.launches(sources)) == 2
    check([claimed, coded_segment([Module((4, 3), (), rank=100)])], kernels)


@pytest.mark.parametrize("gain", [1e-38, 1e-44, 1e-5, 6e-8])
def test_small_gains_underflow_alike(gain: float, kernels: KernelBackend) -> None:
    modules = [Module((20, 20), (8,), gain=gain, dtypes=("F16", "F32"))]
    check([coded_segment(modules, lanes=64)], kernels)


def test_a_scale_of_zero_keeps_its_signs(kernels: KernelBackend) -> None:
    """A kappa of zero gives −0 in factors, and +0 in a vector, to which zero is added."""
    whole = coded_segment([Module((22, 22), (14,)), Module((40,), (14,))], lanes=64)
    block = whole.blocks[0]
    held = sum(count == max(whole.planes) for count in whole.planes)
    coded = replace(whole, blocks=(bytes(held) + block[held:],))
    check([coded], kernels)
    values = [kernels.on_host(values) for values in kernels.decode_layers([coded])]
    assert np.signbit(values[0]).any()
    assert not np.signbit(values[-1]).any()


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("dtype", "gain"), [("F16", 3e4), ("BF16", 2e38), ("F32", 2e38)])
def test_values_that_do_not_fit_are_refused(
    dtype: str, gain: float, kernels: KernelBackend
) -> None:
    for sizes in ((12, 12), (30,)):
        module = Module(sizes, (9,), gain=gain, dtypes=(dtype, dtype))
        coded = coded_segment([module], lanes=64)
        for backend in (kernels, NumpyBackend()):
            with pytest.raises(TernDamagedError, match="fit"):
                backend.decode_layers([coded])


WHOLE = {
    name: coded_segment([Module((400, 500), (14,))], lanes=lanes, grouped=name == "grouped")
    for name, lanes in (("shared", 20), ("grouped", 48))
}


def refuse(coded: Coded, kernels: KernelBackend, *, together: bool = True) -> None:
    """Expect the reference and the kernels to refuse a segment, alone and behind a right one."""
    with pytest.raises(TernDamagedError):
        expected(coded)
    with pytest.raises(TernDamagedError):
        kernels.decode_layers([WHOLE["shared"], coded] if together else [coded])


@pytest.mark.parametrize("layout", WHOLE)
@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("where", ["first", "last"])
def test_changed_words_are_noticed(
    where: str, number: int, layout: str, kernels: KernelBackend
) -> None:
    coded = WHOLE[layout]
    block = coded.blocks[number]
    at = anatomy(coded, number).words_at if where == "first" else len(block) - 1
    changed = patched(block, at, bytes([block[at] ^ 1]))
    refuse(with_block(coded, changed, number), kernels)


@pytest.mark.parametrize("layout", WHOLE)
@pytest.mark.parametrize("state", [0, 0xFFFF, 1 << 16, (1 << 32) - 1])
def test_changed_states_are_noticed(state: int, layout: str, kernels: KernelBackend) -> None:
    coded = WHOLE[layout]
    changed = patched(coded.blocks[-1], anatomy(coded).states_at, struct.pack("<I", state))
    refuse(with_block(coded, changed), kernels, together=False)


def with_words(coded: Coded, change: Callable[[bytes], bytes]) -> Coded:
    """Change the words of the finest plane, honestly counted."""
    parts, block = anatomy(coded), coded.blocks[-1]
    words = change(block[parts.words_at :])
    counted = patched(block, parts.head_at + 2, struct.pack("<I", len(words) // 2))
    return with_block(coded, counted[: parts.words_at] + words)


@pytest.mark.parametrize("missing", [1, 30])
def test_words_that_run_out_are_noticed(missing: int, kernels: KernelBackend) -> None:
    refuse(with_words(WHOLE["shared"], lambda words: words[: -2 * missing]), kernels)


def test_words_left_over_are_noticed(kernels: KernelBackend) -> None:
    refuse(with_words(WHOLE["shared"], lambda words: words + b"\1\2"), kernels)


def test_words_moved_between_groups_are_noticed(kernels: KernelBackend) -> None:
    coded = WHOLE["grouped"]
    at = anatomy(coded).groups_at
    one, two = struct.unpack_from("<2I", coded.blocks[-1], at)
    moved = patched(coded.blocks[-1], at, struct.pack("<2I", one - 2, two + 2))
    refuse(with_block(coded, moved), kernels)


def test_words_beyond_a_plane_are_never_read(device: str) -> None:
    """The words that a cut plane lacks lie right behind it, and still nothing comes of them."""
    whole = WHOLE["shared"]
    batch = plane_batches.upload([with_words(whole, lambda words: words[:-6])], device)
    missing = torch.from_numpy(np.frombuffer(whole.blocks[-1][-6:], "<i2").copy()).to(device)
    laid_out = replace(batch, words=torch.cat([batch.words[:-2], missing]))
    with pytest.raises(TernDamagedError, match="end"):
        planes.decode_planes(laid_out)


@pytest.mark.parametrize("layout", WHOLE)
def test_what_the_host_can_see_is_refused_before_the_upload(layout: str, device: str) -> None:
    coded, parts = WHOLE[layout], anatomy(WHOLE[layout])
    block = coded.blocks[-1]
    grouped = len(block) - 2 * parts.words - parts.groups_at > 0
    lies = [b"", block[:-1], block[:-2], block + b"\0\0", block[: parts.states_at - 1]]
    for lanes in (0, parts.lanes - 1, 0x7FFF):
        told = lanes | (grouped << 15)
        lies.append(patched(block, parts.head_at, struct.pack("<H", told)))
    if grouped:
        lies.append(patched(block, parts.groups_at, struct.pack("<I", 1 << 31)))
    lies.append(b"\xff" * parts.head_at + block[parts.head_at :])
    for lie in lies:
        with pytest.raises(TernDamagedError):
            plane_batches.upload([with_block(coded, lie)], device)
        with pytest.raises(TernDamagedError):
            expected(with_block(coded, lie))
    with pytest.raises(TernDamagedError, match="more planes"):
        plane_batches.upload([replace(coded, blocks=(*coded.blocks, block))], device)


def test_few_lanes_for_many_pairs_are_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_ROWS", 2)
    with pytest.raises(TernDamagedError, match="fewer lanes"):
        plane_batches.upload([WHOLE["shared"]], device)


def test_too_many_values_for_one_launch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_batches, "MAX_ELEMENTS", 1500)
    with pytest.raises(OptionError, match="too many values"):
        plane_batches.upload([WHOLE["shared"], WHOLE["grouped"]], device)


def test_the_trellis_is_what_the_kernel_takes_it_for() -> None:
    for state in range(8):
        even, odd = (int(FOLLOWING[2 * state + parity]) for parity in (0, 1))
        assert (planes._AFTER_EVEN >> 4 * state) & 7 == even
        assert odd == even ^ 1


def test_random_bytes_never_decode_to_something_else(kernels: KernelBackend) -> None:
    """Whatever is flipped: both refuse, or both accept it and agree."""
    rng = np.random.default_rng(1)
    coded = coded_segment([Module((24, 20), (8,))], lanes=32)
    for _ in range(12):
        number = int(rng.integers(len(coded.blocks)))
        block = coded.blocks[number]
        at = int(rng.integers(len(block)))
        changed = with_block(coded, patched(block, at, bytes([rng.integers(256)])), number)
        try:
            NumpyBackend().decode_layers([changed])
        except TernDamagedError:
            with pytest.raises(TernDamagedError):
                kernels.decode_layers([changed])
        else:
            check([changed], kernels)
