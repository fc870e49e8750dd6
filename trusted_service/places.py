"""How many calls of this process may wait for upstreams at once.

A request holds a thread while an upstream is silent, and a process has 64 of them (gunicorn.conf.py).
Without a limit, as many requests as that would leave nobody to answer even `/healthz`, and those behind
them would wait for 6 s, and again 6 s, before their own time began.
"""

import threading
import time
from collections import Counter

MOST_OF_ONE = 40
"""Calls to one upstream. A busy process, which is out of processor time first, makes 10 to 20 at once."""
MOST_TOGETHER = 56
"""Calls to all of them: eight threads stay free to say so."""
PATIENCE_SECONDS = 1.0
"""How long a call waits for a place while others come and go; nothing of that for so long is silence."""


class Places:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()
        self._moved_at: dict[str, float] = {}

    def take(self, upstream: str) -> bool:
        """Take a place for a call; False, after a second or less, where there is none."""
        gives_up = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while self._taken[upstream] >= MOST_OF_ONE or self._taken.total() >= MOST_TOGETHER:
                now = time.monotonic()
                until = min(gives_up, self._moved_at.get(upstream, now) + PATIENCE_SECONDS)
                if now >= until:
                    return False
                self._changed.wait(until - now)
            self._move(upstream, 1)
            return True

    def free(self, upstream: str) -> None:
        """Give the place back."""
        with self._changed:
            self._move(upstream, -1)
            self._changed.notify_all()

    def _move(self, upstream: str, number: int) -> None:
        self._taken[upstream] += number
        self._moved_at[upstream] = time.monotonic()
