"""Counts calls per operation and keeps the last ones, for tests that count round trips."""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

RECENT_CALLS = 500


@dataclass(frozen=True, kw_only=True)
class Call:
    """One completed call; `status` is None if a fault prevented a complete response."""

    service: str
    operation: str
    status: int | None
    client_request_id: str | None
    user_agent: str | None
    at: float

    def to_json(self) -> dict[str, object]:
        """Return the call as the control routes show it."""
        return {
            "service": self.service,
            "operation": self.operation,
            "status": self.status,
            "clientRequestId": self.client_request_id,
            "userAgent": self.user_agent,
            "at": self.at,
        }


class Journal:
    """Counts calls when they arrive and keeps the last few when they complete."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._recent: deque[Call] = deque(maxlen=RECENT_CALLS)

    def count(self, service: str, operation: str) -> None:
        """Count a call that arrived."""
        with self._lock:
            self._counts[service, operation] += 1

    def record(
        self,
        service: str,
        operation: str,
        status: int | None,
        client_request_id: str | None,
        user_agent: str | None,
    ) -> None:
        """Record a call that completed."""
        call = Call(
            service=service,
            operation=operation,
            status=status,
            client_request_id=client_request_id,
            user_agent=user_agent,
            at=time.time(),
        )
        with self._lock:
            self._recent.append(call)

    def to_json(self) -> dict[str, object]:
        """Return counts by service and operation, and the last calls, oldest first."""
        with self._lock:
            counts: dict[str, dict[str, int]] = {"entra": {}, "acs": {}, "ingestion": {}}
            for (service, operation), number in self._counts.items():
                counts[service][operation] = number
            return {"counts": counts, "recent": [call.to_json() for call in self._recent]}

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts.clear()
            self._recent.clear()
