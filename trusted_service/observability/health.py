"""Readiness: whether the services that we depend on respond."""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import UpstreamError

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0


class Readiness:
    """Runs a check for each upstream, side by side. A check raises UpstreamError if its upstream fails."""

    def __init__(self, checks: Mapping[str, Callable[[], None]]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._failures: dict[str, str | None] = {}

    def failures(self) -> dict[str, str | None]:
        """For each upstream by name, what is wrong with it in a few words, or None. At most 5 s old."""
        with self._lock:
            if time.monotonic() - self._checked_at > FRESH_SECONDS:
                failures = map_parallel(_find_failure, list(self._checks.values()))
                self._failures = dict(zip(self._checks, failures, strict=True))
                self._checked_at = time.monotonic()
            return dict(self._failures)


def _find_failure(check: Callable[[], None]) -> str | None:
    try:
        check()
    except UpstreamError as error:
        log.warning("upstream_failing", upstream=error.upstream, reason=error.reason)
        return error.reason
    return None
