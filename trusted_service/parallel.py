"""Makes independent upstream calls of one request side by side."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

THREADS = 8

Given = TypeVar("Given")
Got = TypeVar("Got")


def map_parallel(action: Callable[[Given], Got], values: Sequence[Given]) -> list[Got]:
    """Return the result for each value; each call has the deadline and the request id of this one."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(copy_context().run, action, value) for value in values]
        return [future.result() for future in futures]
