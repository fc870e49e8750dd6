"""The metrics of this service, by OpenTelemetry: nothing is recorded until `telemetry` has configured it.

Most are counted where a log line marks the moment (`count_event`), so that line and metric cannot differ. The
canary calls `canary("ok")`, `canary("failed", upstream)` or, before the first user, `canary("waiting")`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from opentelemetry.metrics import get_meter
from structlog.typing import EventDict

_meter = get_meter("trusted_service")
_tokens = _meter.create_counter("trusted_service.tokens", description="tokens issued, by kind")
_refusals = _meter.create_counter("trusted_service.refusals", description="requests refused, by code")
_replaced = _meter.create_counter("trusted_service.identities_replaced", description="by change")
_orphaned = _meter.create_counter("trusted_service.identities_orphaned", description="by event")
_throttles = _meter.create_counter("trusted_service.throttles", description="by upstream")
_job_rows = _meter.create_counter("trusted_service.job_rows", description="by action and result")
_canary = _meter.create_counter("trusted_service.canary", description="runs, by result and upstream")
_calls = _meter.create_histogram(
    "trusted_service.upstream_duration", "s", "by upstream, operation and status (0: no response)"
)


def canary(result: Literal["ok", "failed", "waiting"], upstream: str = "") -> None:
    """Count a run of the canary; `upstream` is the one that failed."""
    _canary.add(1, {"result": result, "upstream": upstream})


def count_job_rows(action: str, results: Iterable[str]) -> None:
    """Count the rows of a job that are over, by result."""
    for result, rows in Counter(results).items():
        if result != "pending":
            _job_rows.add(rows, {"action": action, "result": result})


def count_throttle(upstream: str) -> None:
    """Count a call that an upstream refused as one too many."""
    _throttles.add(1, {"upstream": upstream})


def record_call(upstream: str, operation: str, status: int, seconds: float) -> None:
    """Record how long an upstream took to respond with this status, or with none (0)."""
    _calls.record(seconds, {"upstream": upstream, "operation": operation, "status": status})


def count_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Count what a log line reports. A processor of structlog, which changes nothing."""
    match name := event["event"]:
        case "authn_token_created":
            _tokens.add(1, {"kind": "communication"})
        case "teams_token_issued":
            _tokens.add(1, {"kind": "teams"})
        case "request" if event["status"] in (401, 403, 429):
            _refusals.add(1, {"code": event["code"] or ""})
        case "identity_switched":
            _replaced.add(1, {"change": event["change"]})
        case "identity_orphaned" | "identity_may_be_orphaned":
            _orphaned.add(1, {"event": name})
    return event
