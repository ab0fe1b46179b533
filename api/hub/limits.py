"""Keep one caller from taking everything: rates by token bucket, uploads by count."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.errors import UploadRateError

MAX_KEYS = 20_000


class RateLimiter:
    """Let each key act so many times a minute, in bursts of up to a minute's worth.

    The keys used longest ago are forgotten, so that memory stays bounded.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> int:
        """Return how long the key must wait before it may act: 0 if it may act now."""
        with self._lock:
            return self._wait(self._level(key))

    def spend(self, key: str) -> int:
        """Act if the key may; return how long it must wait instead, or 0 if it acted."""
        if self._per_minute == 0:
            return 0
        with self._lock:
            level = self._level(key)
            wait = self._wait(level)
            self._keep(key, level if wait else level - 1)
            return wait

    def _wait(self, level: float) -> int:
        if self._per_minute == 0 or level >= 1:
            return 0
        return math.ceil((1 - level) * 60 / self._per_minute)

    def _level(self, key: str) -> float:
        level, seen = self._buckets.get(key, (float(self._per_minute), self._clock()))
        gained = (self._clock() - seen) * self._per_minute / 60
        return min(float(self._per_minute), level + gained)

    def _keep(self, key: str, level: float) -> None:
        self._buckets[key] = (level, self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)


class UploadGate:
    """Let only so many uploads be in flight at once, and of one caller only a part of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._share = min(most, max(4, most // 4))
        self._held: Counter[str] = Counter()

    @contextmanager
    def enter(self, caller: str = "") -> Iterator[None]:
        """Hold one place while an upload is received.

        Args:
            caller: who may hold a part of the places only; empty where nobody is told apart.

        Raises:
            UploadRateError: every place is taken, or the caller's part of them.
        """
        with self._lock:
            count = self._held.total()
            if count >= self._most:
                raise UploadRateError(
                    f"{count} uploads are being received already", retry_after_s=2
                )
            if caller and self._held[caller] >= self._share:
                raise UploadRateError(
                    f"{self._share} uploads of yours are being received already", retry_after_s=2
                )
            self._held[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[caller] -= 1
                self._held += Counter()  # forget who holds nothing
