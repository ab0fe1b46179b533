"""Check that rates and counts hold, with a clock that stands still until it is moved."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from api.errors import UploadRateError
from api.hub import limits
from api.hub.limits import RateLimiter, UploadGate


class Clock:
    """Be a clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minutes_worth_passes_at_once_and_no_more(clock: Clock) -> None:
    limiter = RateLimiter(6, clock=clock)
    assert [limiter.spend("a") for _ in range(7)] == [0, 0, 0, 0, 0, 0, 10]


def test_waiting_as_told_is_enough_and_less_is_not(clock: Clock) -> None:
    limiter = RateLimiter(6, clock=clock)
    for _ in range(6):
        limiter.spend("a")
    wait = limiter.spend("a")
    clock.now += wait - 1
    assert limiter.spend("a") == 1
    clock.now += 1
    assert limiter.spend("a") == 0


def test_being_refused_costs_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, clock=clock)
    limiter.spend("a")
    for _ in range(100):
        assert limiter.spend("a") == 60
    clock.now += 60
    assert limiter.spend("a") == 0


def test_nothing_is_saved_up_beyond_a_minute(clock: Clock) -> None:
    limiter = RateLimiter(3, clock=clock)
    limiter.spend("a")
    clock.now += 86_400
    assert [limiter.spend("a") for _ in range(4)] == [0, 0, 0, 20]


def test_keys_do_not_share(clock: Clock) -> None:
    limiter = RateLimiter(1, clock=clock)
    assert limiter.spend("a") == 0
    assert limiter.spend("b") == 0
    assert limiter.spend("a") > 0


def test_looking_spends_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, clock=clock)
    assert limiter.wait_s("a") == limiter.wait_s("a") == 0
    assert limiter.spend("a") == 0
    assert limiter.wait_s("a") == 60


def test_zero_means_no_limit(clock: Clock) -> None:
    limiter = RateLimiter(0, clock=clock)
    assert {limiter.spend("a") for _ in range(10_000)} == {0}
    assert limiter.wait_s("a") == 0


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    limiter = RateLimiter(1, clock=clock)
    for key in "abcd":
        limiter.spend(key)
    assert limiter.spend("d") > 0, "the latest are remembered"
    assert limiter.spend("a") == 0, "the oldest is forgotten"


def test_threads_together_spend_no_more_than_allowed(clock: Clock) -> None:
    limiter = RateLimiter(100, clock=clock)
    passed: list[int] = []

    def work() -> None:
        passed.extend(1 for _ in range(50) if limiter.spend("a") == 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100


def test_uploads_are_counted_and_uncounted() -> None:
    gate = UploadGate(2)
    with gate.enter(), gate.enter():
        with pytest.raises(UploadRateError) as caught, gate.enter():
            pass
        assert caught.value.retry_after_s > 0
    with gate.enter():
        pass


def test_one_caller_holds_a_part_of_the_places_only() -> None:
    gate = UploadGate(20)
    with ExitStack() as held:
        for _ in range(5):
            held.enter_context(gate.enter("greedy"))
        with pytest.raises(UploadRateError, match="yours"), gate.enter("greedy"):
            pass
        with gate.enter("modest"), gate.enter():
            pass
    with gate.enter("greedy"):
        pass


def test_a_failed_upload_gives_its_place_back() -> None:
    gate = UploadGate(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.enter():
            _ = 1 / 0
