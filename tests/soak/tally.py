"""Counts requests, faults and kills, and collects broken promises."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

LIMIT_SECONDS, HEALTH_SECONDS = 15.0, 2.0


@dataclass
class Tally:
    """Thread-safe, except that only one thread may count faults, and only one kills."""

    statuses: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    health_limit: float = HEALTH_SECONDS
    slowest_probe: float = 0.0
    slowest: tuple[float, str] = (0.0, "nothing")
    violations: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def responded(self, action: str, status: int, seconds: float, code: str) -> None:
        """Count a response, which must arrive in time and not be an internal error."""
        with self._lock:
            self.actions[action] += 1
            self.statuses[f"{status} {code}".strip()] += 1
            if seconds > self.slowest[0]:
                self.slowest = (seconds, action)
        if seconds > LIMIT_SECONDS:
            self.violate(f"{action}: response after {seconds:.1f} s")
        if status >= 500 and status != 503:
            self.violate(f"{action}: {status}")

    def probed(self, seconds: float) -> None:
        """Count a response of /healthz, which must never be late."""
        self.slowest_probe = max(self.slowest_probe, seconds)
        if seconds > self.health_limit:
            self.violate(f"/healthz: response after {seconds:.1f} s")

    def died(self, action: str) -> None:
        """Count a request without response, as its process was killed or down."""
        with self._lock:
            self.actions[action] += 1
            self.statuses["no response: killed"] += 1

    def violate(self, promise: str) -> None:
        """Record a broken promise."""
        with self._lock:
            self.violations.append(promise)

    def progress(self) -> str:
        """Return a line about the progress."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        good = sum(count for status, count in self.statuses.items() if status[0] in "23")
        return (
            f"{minutes:3}:{seconds:02}  {self.statuses.total():6} requests, {good:6} good, "
            f"{self.faults.total():5} faults, {self.kills:3} kills, slowest {self.slowest[0]:4.1f} s, "
            f"{len(self.violations)} violations"
        )
