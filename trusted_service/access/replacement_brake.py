"""Caps how many missing identities one process replaces: many at once are an incident at Azure."""

import threading
import time

import structlog

from trusted_service.errors import IdentityMissing

log = structlog.get_logger(__name__)

MAX_REPLACEMENTS, WINDOW_SECONDS = 5, 600.0


class ReplacementBrake:
    """One for each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, float] = {}

    def take(self, acs_user_id: str) -> None:
        """Count the identity, once for requests that overlap. Raises IdentityMissing if one too many."""
        with self._lock:
            now = time.monotonic()
            self._taken = {key: at for key, at in self._taken.items() if now - at < WINDOW_SECONDS}
            if acs_user_id in self._taken:
                return
            if len(self._taken) >= MAX_REPLACEMENTS:
                log.critical("replacement_brake", replaced=len(self._taken), window_seconds=WINDOW_SECONDS)
                seconds = int(min(self._taken.values()) + WINDOW_SECONDS - now) + 1
                reason = "too many identities are missing at once"
                raise IdentityMissing("Communication Services", reason, str(seconds))
            self._taken[acs_user_id] = now
