"""Check the decoding kernel against the encoder, and that it believes nothing."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from compress import entropy, ternary
from compress.errors import OptionError, TernDamagedError
from compress.kernels import entropy as kernel
from compress.kernels import segments
from tests.compress.kernels.trit_segments import (
    LAYOUTS,
    head_of,
    random_trits,
    states_at,
    with_bytes,
    words_at,
)

# Symbols: one; one less, as many and one more than the least number of lanes; primes.
SIZES = [1, 5, 39, 40, 41, 1009, 5003]


def decoded(encoded: list[bytes], device: str) -> list[list[int]]:
    """Decode the symbols of every segment."""
    batch = segments.upload(encoded, device)
    symbols = kernel.decode_symbols(batch).cpu().tolist()
    starts = batch.spans.table[:, 0].tolist()
    counts = [ternary.symbol_count(trits) for _, trits in batch.spans.places]
    return [symbols[at : at + count] for at, count in zip(starts, counts, strict=True)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES)
def test_kernel_equals_reference(size: int, layout: str, device: str) -> None:
    trits = random_trits(size, 0.3, seed=size)
    assert decoded([LAYOUTS[layout](trits)], device) == [ternary.pack(trits).tolist()]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lanes", [1, 31, 32, 33, 129, 513])
def test_any_number_of_lanes(
    lanes: int, layout: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "_choose_lanes", lambda *_: lanes)
    trits = random_trits(5 * (2 * lanes + 1), 0.5, seed=lanes)
    segment = LAYOUTS[layout](trits)
    assert head_of(segment)["lanes"] == lanes
    assert decoded([segment], device) == [ternary.pack(trits).tolist()]


def test_layouts_and_sizes_decode_in_one_call(device: str) -> None:
    pieces = [random_trits(size, 0.4, seed=size) for size in (0, 64, 1000, 33, 1009, 0, 5)]
    pieces.append(np.ones(64, np.int8))
    encoded = [
        encode(piece)
        for piece, encode in zip(pieces, [*LAYOUTS.values()] * len(pieces), strict=False)
    ]
    assert decoded(encoded, device) == [ternary.pack(piece).tolist() for piece in pieces]


def test_nothing_decodes_to_nothing(device: str) -> None:
    assert decoded([], device) == []
    assert decoded([entropy.encode_segment(np.empty(0, np.int8))], device) == [[]]


@pytest.mark.parametrize("density", [0.001, 0.9])
def test_every_precision_of_the_model(density: float, device: str) -> None:
    """Structured streams take finer tables; both kinds of model decode."""
    flat = random_trits(5000, density)
    periodic = np.tile(np.array([1, -1, 1, -1, 0, 0, 1], np.int8), 700)
    for trits in (flat, periodic):
        assert decoded([entropy.encode_segment(trits)], device) == [ternary.pack(trits).tolist()]


SEGMENTS = {name: encode(random_trits(2000, 0.5)) for name, encode in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at", [0, 2, 11, -2])
def test_changed_words_with_a_right_checksum_are_noticed(at: int, layout: str, device: str) -> None:
    segment = SEGMENTS[layout]
    place = words_at(segment) + at if at >= 0 else len(segment) + at
    changed = with_bytes(segment, place, bytes([segment[place] ^ 1]))
    batch = segments.upload([SEGMENTS["shared"], changed], device)
    with pytest.raises(TernDamagedError):
        kernel.decode_symbols(batch)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("state", [1 << 16, (1 << 32) - 1, 0x1234567])
def test_changed_states_are_noticed(state: int, layout: str, device: str) -> None:
    segment = SEGMENTS[layout]
    changed = with_bytes(segment, states_at(segment), struct.pack("<I", state))
    with pytest.raises(TernDamagedError):
        decoded([changed], device)


def shorter(segment: bytes, words: int) -> bytes:
    """Take words off the end of a shared segment, honestly declared."""
    head = list(struct.unpack_from("<IIHBBHI", segment))
    head[6] -= words
    return with_bytes(struct.pack("<IIHBBHI", *head) + segment[18 : -2 * words], 0, b"")


@pytest.mark.parametrize("missing", [1, 3, 50])
def test_words_that_run_out_are_noticed(missing: int, device: str) -> None:
    with pytest.raises(TernDamagedError, match="end"):
        decoded([shorter(SEGMENTS["shared"], missing)], device)


def test_words_beyond_a_segment_are_never_read(device: str) -> None:
    """The words that a cut segment lacks lie right behind it, and still nothing comes of them."""
    whole = SEGMENTS["shared"]
    truth = kernel.decode_symbols(segments.upload([whole], device)).cpu()
    batch = segments.upload([shorter(whole, 3)], device)
    missing = torch.from_numpy(np.frombuffer(whole[-6:], "<i2").copy()).to(device)
    laid_out = replace(batch, words=torch.cat([batch.words[:-1], missing]))
    symbols = torch.zeros(batch.symbols, dtype=torch.uint8, device=device)
    ((block, plan),) = batch.plans
    assert kernel._launch(laid_out, plan, symbols, block)
    assert (symbols.cpu()[:400] != truth[:400]).any()


def test_words_left_over_are_noticed(device: str) -> None:
    segment = SEGMENTS["shared"]
    head = list(struct.unpack_from("<IIHBBHI", segment))
    head[6] += 1
    longer = with_bytes(struct.pack("<IIHBBHI", *head) + segment[18:] + b"\1\2", 0, b"")
    with pytest.raises(TernDamagedError, match="end"):
        decoded([longer], device)


def test_words_moved_between_groups_are_noticed(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "_choose_lanes", lambda *_: 64)
    segment = entropy.encode_segment(random_trits(2000, 0.5), grouped=True)
    at = states_at(segment) + 4 * 64
    one, two = struct.unpack_from("<2I", segment, at)
    with pytest.raises(TernDamagedError, match="end"):
        decoded([with_bytes(segment, at, struct.pack("<2I", one - 2, two + 2))], device)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_host_can_see_is_refused_before_the_upload(layout: str, device: str) -> None:
    segment = SEGMENTS[layout]
    for broken in (segment[:-1], segment[:40] + b"\0" + segment[41:], b"", bytes(18)[:17]):
        with pytest.raises(TernDamagedError):
            segments.upload([broken], device)
    with pytest.raises(TernDamagedError, match="state"):
        segments.upload([with_bytes(segment, states_at(segment), bytes(4))], device)


def test_too_many_trits_for_one_launch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_ELEMENTS", 2999)
    with pytest.raises(OptionError, match="too many"):
        segments.upload([SEGMENTS["shared"], entropy.encode_segment(random_trits(1000))], device)


def test_too_many_segments_for_one_launch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_MAX_SEGMENTS", 1)
    with pytest.raises(OptionError, match="too many segments"):
        segments.upload([SEGMENTS["shared"]] * 2, device)
