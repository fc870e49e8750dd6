"""Repeats a change that depends on rows which others may change at the same time."""

import random
import time
from collections.abc import Iterator

MAX_PAUSE = 1.0


def attempts(count: int = 8) -> Iterator[int]:
    """Count attempts, with growing random pauses between them, so that competitors fall out of step."""
    for attempt in range(count):
        if attempt:
            time.sleep(random.uniform(0, min(MAX_PAUSE, 0.025 * 2**attempt)))  # noqa: S311 # nosec B311
        yield attempt
