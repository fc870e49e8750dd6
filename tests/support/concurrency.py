"""Concurrent actions, and waiting for conditions."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Timed = tuple[T, float]

PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.05


def run_concurrently(actions: Sequence[Callable[[], T]]) -> list[T]:
    """Run all actions at once, each in its own thread; return their results in order."""
    with ThreadPoolExecutor(max_workers=len(actions)) as pool:
        return [future.result() for future in [pool.submit(action) for action in actions]]


def repeat(action: Callable[[], T], seconds: float) -> list[T]:
    """Run the action again and again for so long; return its results in order."""
    ends, results = time.monotonic() + seconds, list[T]()
    while time.monotonic() < ends:
        results.append(action())
    return results


def alongside(action: Callable[[], T], other: Callable[[], object]) -> T:
    """Run both at once; return the result of `action`."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.submit(action), pool.submit(other)
        second.result()
        return first.result()


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Poll until `condition` holds. Raises AssertionError if it does not within `seconds`."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{condition} does not hold after {seconds} s"
        time.sleep(POLL_SECONDS)


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """Run the action; return its result and duration in seconds."""
    begin = time.monotonic()
    result = action()
    return result, time.monotonic() - begin


def crowd(action: Callable[[int], T], times: int, others: Sequence[Callable[[], T]]) -> list[list[Timed[T]]]:
    """Run `action` with each number at once, and `others` until all have ended; return the timed results."""
    results: list[list[Timed[T]]] = [[] for _ in others]
    with ThreadPoolExecutor(times) as pool:
        pending = [pool.submit(timed, partial(action, number)) for number in range(times)]
        while not all(future.done() for future in pending):
            for other, collected in zip(others, results, strict=True):
                collected.append(timed(other))
    return [[future.result() for future in pending], *results]
