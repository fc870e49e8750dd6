"""Runs the SDK's asynchronous tests without a plugin."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec

Parameters = ParamSpec("Parameters")


def recorded_by_proxy_async(
    test: Callable[Parameters, Coroutine[object, object, None]],
) -> Callable[Parameters, None]:
    """Return a test that runs the coroutine to its end."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run
