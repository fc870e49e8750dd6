"""Upstream calls in parallel: those of one request, or those of a long command, which also retries them."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from trusted_service.errors import UpstreamError

THREADS = 8
RETRY_DELAYS = (1.0, 3.0, 9.0, 27.0)
"""Seconds before each retry of a command, which no request waits for."""

Given = TypeVar("Given")
Got = TypeVar("Got")


def map_parallel(
    action: Callable[[Given], Got], values: Iterable[Given], threads: int = THREADS
) -> list[Got]:
    """Return the result for each value; each call has the deadline and the request id of the caller."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(copy_context().run, action, value) for value in values]
        return [future.result() for future in futures]


def find_failures(checks: Iterable[Callable[[], object]]) -> list[UpstreamError | None]:
    """Make the checks side by side; return how each fails, if it does."""

    def find_failure(check: Callable[[], object]) -> UpstreamError | None:
        try:
            check()
        except UpstreamError as error:
            return error
        return None

    return map_parallel(find_failure, checks)


def retry(action: Callable[[Given], Got], value: Given) -> Got:
    """Call the action, and retry it when an upstream fails. Raises the last UpstreamError."""
    for seconds in RETRY_DELAYS:
        try:
            return action(value)
        except UpstreamError:
            time.sleep(seconds)
    return action(value)
