"""The service's limits per resource: requests in 30 seconds, by operation.

learn.microsoft.com/azure/communication-services/concepts/service-limits#identity.
"""

import math
import threading
import time
from collections import Counter
from http import HTTPStatus

from local_azure.communication.errors import CommunicationError

WINDOW_SECONDS = 30
REQUESTS = {"create": 1000, "issue": 1000, "delete": 500, "revoke": 500, "exchange": 500}


class Limits:
    """Counts requests in fixed windows; off until a test turns it on."""

    def __init__(self) -> None:
        """Start turned off."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._window_end = 0.0
        self.enabled = False

    def turn(self, on: bool) -> None:
        """Turn the limits on or off, and reset the counts."""
        with self._lock:
            self.enabled = on
            self._counts.clear()
            self._window_end = 0.0

    def count(self, operation: str) -> None:
        """Count a request. Above the limit, raises CommunicationError 429 with the seconds to wait."""
        if not self.enabled:
            return
        now = time.monotonic()
        with self._lock:
            if now >= self._window_end:
                self._counts.clear()
                self._window_end = now + WINDOW_SECONDS
            self._counts[operation] += 1
            exceeded = self._counts[operation] > REQUESTS[operation]
            wait = math.ceil(self._window_end - now)
        if exceeded:
            raise CommunicationError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "TooManyRequests",
                "The resource has exceeded its request limit.",
                retry_after=wait,
            )
