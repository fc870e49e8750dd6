"""Readiness: whether the services that we depend on respond."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from trusted_service.azure.deadlines import NotSent
from trusted_service.azure.parallel import find_failures
from trusted_service.azure.shared_call import SharedCall

log = structlog.get_logger(__name__)

FRESH_SECONDS, CHECK_SECONDS = 4.0, 6.0
"""After how long there is a new check, and how long one may take: so a result is at most 10 s old."""
KEPT_SECONDS = FRESH_SECONDS + CHECK_SECONDS


class Readiness:
    """Runs a check for each upstream, side by side. A check raises UpstreamError if its upstream fails."""

    def __init__(self, checks: Mapping[str, Callable[[], None]]) -> None:
        self._checks = checks
        self._call = SharedCall(self._check, CHECK_SECONDS)
        self._checked_at = float("-inf")
        self._failures: dict[str, str | None] = {}

    def failures(self) -> dict[str, str | None]:
        """For each upstream by name, what is wrong with it in a few words, or None. At most 10 s old.

        No caller makes a check, and few wait for a slow one to its end: others get the last result.
        """
        if time.monotonic() - self._checked_at > FRESH_SECONDS:
            with suppress(NotSent):
                self._call.start().wait()
        if time.monotonic() - self._checked_at > KEPT_SECONDS:
            return dict.fromkeys(self._checks, "no response yet")
        return dict(self._failures)

    def _check(self) -> None:
        failures = find_failures(self._checks.values())
        for failure in filter(None, failures):
            log.warning("upstream_failing", **failure.log_fields)
        reasons = (failure.reason if failure else None for failure in failures)
        self._failures = dict(zip(self._checks, reasons, strict=True))
        self._checked_at = time.monotonic()
