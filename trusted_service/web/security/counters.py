"""The counts of rate limits in the memory of this process.

The storage that `limits` has for this starts a thread whenever it is asked; two requests at once can start
the same one, which fails. https://github.com/alisaifee/limits/blob/master/limits/storage/memory.py
https://limits.readthedocs.io/en/stable/custom-storage.html
"""

import threading
import time
from typing import Any

from limits.storage import Storage

FEWEST_SWEPT = 1024


class Counters(Storage):
    """Fixed windows: `key` counts until it ends, `expiry` seconds after its first count."""

    STORAGE_SCHEME = ["counters"]  # noqa: RUF012 # as the base class declares it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, float]] = {}
        self._swept_at = FEWEST_SWEPT

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        with self._lock:
            count, end = self._counts.get(key, (0, 0.0))
            if end <= now:
                count, end = 0, now + expiry
                self._sweep(now)
            self._counts[key] = count + amount, end
        return count + amount

    def get(self, key: str) -> int:
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        self._counts, removed = {}, len(self._counts)
        return removed

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _sweep(self, now: float) -> None:
        """Forget what has ended, whenever there is twice as much as was left."""
        if len(self._counts) >= self._swept_at:
            self._counts = {key: count for key, count in self._counts.items() if count[1] > now}
            self._swept_at = max(FEWEST_SWEPT, 2 * len(self._counts))
