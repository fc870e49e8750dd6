"""Readiness: whether the services that we depend on respond."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from trusted_service.azure.deadlines import NotSent
from trusted_service.azure.parallel import map_parallel
from trusted_service.azure.shared_call import SharedCall, new_waiters
from trusted_service.errors import UpstreamError

log = structlog.get_logger(__name__)

FRESH_SECONDS, CHECK_SECONDS = 4.0, 6.0
"""A check of this length, whose result is kept that long, means that nothing is older than 10 s."""

UNKNOWN = "no response yet"


class Readiness:
    """Runs a check for each upstream, side by side. A check raises UpstreamError if its upstream fails."""

    def __init__(self, checks: Mapping[str, Callable[[], None]]) -> None:
        self._checks = checks
        self._call = SharedCall(self._check, CHECK_SECONDS)
        self._waiters = new_waiters()
        self._checked_at = float("-inf")
        self._failures: dict[str, str | None] = dict.fromkeys(checks, UNKNOWN)

    def failures(self) -> dict[str, str | None]:
        """For each upstream by name, what is wrong with it in a few words, or None. At most 10 s old.

        No caller makes a check, and few wait for one to its end: others get what is known by then.
        """
        if time.monotonic() - self._checked_at > FRESH_SECONDS:
            with suppress(NotSent):
                self._call.start().wait(self._waiters)
        return dict(self._failures)

    def _check(self) -> None:
        self._failures = dict.fromkeys(self._checks, UNKNOWN)
        map_parallel(self._find_failure, list(self._checks))
        self._checked_at = time.monotonic()

    def _find_failure(self, name: str) -> None:
        try:
            self._checks[name]()
            self._failures[name] = None
        except UpstreamError as error:
            log.warning("upstream_failing", upstream=error.upstream, reason=error.reason)
            self._failures[name] = error.reason
