"""Retries for commands: nobody's request waits for them, and a long one meets every hiccup of the storage."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from trusted_service.errors import UpstreamError

WAIT_SECONDS = (1.0, 3.0, 9.0, 27.0)

Given = TypeVar("Given")
Got = TypeVar("Got")


def retry(action: Callable[[Given], Got], value: Given) -> Got:
    """Call the action, again a few times where an upstream fails. Raises the last UpstreamError."""
    for seconds in WAIT_SECONDS:
        try:
            return action(value)
        except UpstreamError:
            time.sleep(seconds)
    return action(value)


def retry_each(
    pool: ThreadPoolExecutor, action: Callable[[Given], Got], values: Iterable[Given]
) -> list[Got]:
    """The same for each value, in the threads of the pool."""
    return list(pool.map(lambda value: retry(action, value), values))
