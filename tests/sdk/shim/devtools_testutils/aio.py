"""Runs the SDK's asynchronous tests without a plugin."""

import asyncio
import functools
from collections.abc import Callable, Coroutine


def recorded_by_proxy_async(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Return a test that runs the coroutine to its end."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs))

    return run
