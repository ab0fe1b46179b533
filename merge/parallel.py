"""Work on modules on all cores, one core each, and give the results in order.

The matrices of one module are too small to share among cores: libraries of linear algebra then
wait for one another more than they work, and where other programs are busy they hardly come on.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

_MOST_CORES = 8

T = TypeVar("T")
Item = TypeVar("Item")


def in_order(work: Callable[[str, Item], T], items: Iterable[tuple[str, Item]]) -> Iterator[T]:
    """Call a function for all items, as many at a time as there are cores.

    Items are drawn by the caller's thread, and no more than one beyond those being worked on: what
    waits stays small.
    """
    cores = _cores()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores, "merge") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for name, item in items:
                waiting.append(pool.submit(work, name, item))
                if len(waiting) > cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _cores() -> int:
    """Count the cores to use: not so many that what each holds would fill a large machine."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_MOST_CORES, there or 1)
