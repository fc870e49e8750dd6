"""What was counted, and what broke a promise."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

LIMIT_SECONDS = 15.0


@dataclass
class Tally:
    """Safe to share between threads."""

    statuses: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    slowest: tuple[float, str] = (0.0, "nothing")
    violations: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, action: str, status: int, seconds: float, code: str) -> None:
        """Count an answer: it must come in time, and no defect of ours may be in it."""
        with self._lock:
            self.actions[action] += 1
            self.statuses[f"{status} {code}".strip()] += 1
            if seconds > self.slowest[0]:
                self.slowest = (seconds, action)
        if seconds > LIMIT_SECONDS:
            self.violate(f"{action}: answered after {seconds:.1f} s")
        if status >= 500 and status != 503:
            self.violate(f"{action}: {status}")

    def died(self, action: str) -> None:
        """Count a request whose process was killed, or just down."""
        with self._lock:
            self.actions[action] += 1
            self.statuses["no answer: killed"] += 1

    def broke(self, fault: str) -> None:
        with self._lock:
            self.faults[fault] += 1

    def killed(self) -> None:
        with self._lock:
            self.kills += 1

    def violate(self, promise: str) -> None:
        """Note a promise that was broken."""
        with self._lock:
            self.violations.append(promise)

    def requests(self) -> int:
        return self.statuses.total()

    def progress(self) -> str:
        """One line about how far it is."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        good = sum(count for status, count in self.statuses.items() if status[0] in "23")
        return (
            f"{minutes:3}:{seconds:02}  {self.requests():6} requests, {good:6} good, "
            f"{self.faults.total():5} faults, {self.kills:3} kills, slowest {self.slowest[0]:4.1f} s, "
            f"{len(self.violations)} violations"
        )
