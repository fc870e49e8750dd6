"""How fast something may be done, and that it rests while an upstream asks for it."""

import threading
import time


class Pace:
    """Lets at most `per_second` things begin in this process, evenly spread; for all threads together."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._lock = threading.Lock()
        self._next = 0.0
        self._held_until = 0.0

    def wait(self, stop: threading.Event) -> bool:
        """Return when it is the caller's turn; False as soon as `stop` is set."""
        while not stop.is_set():
            with self._lock:
                now = time.monotonic()
                turn = max(self._next, now)
                if self._held_until <= turn:
                    self._next = turn + self._interval
            if self._held_until > turn:
                stop.wait(self._held_until - now)
            elif not stop.wait(turn - now):
                return True
        return False

    def hold(self, seconds: float) -> None:
        """Let nothing begin for so long."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)
