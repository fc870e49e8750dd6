"""The metrics of this service, by OpenTelemetry: nothing is recorded until `telemetry` has configured it.

Most are counted where a log line marks the moment (`signals.count_event`), so that line and metric cannot
differ. The canary calls `canary("ok")`, `canary("failed", upstream)` or, before the first user, `"waiting"`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from opentelemetry.metrics import get_meter

_meter = get_meter("trusted_service")
tokens = _meter.create_counter("trusted_service.tokens", description="tokens issued, by kind")
refusals = _meter.create_counter("trusted_service.refusals", description="requests refused, by code")
replaced = _meter.create_counter("trusted_service.identities_replaced", description="missing ones")
orphaned = _meter.create_counter("trusted_service.identities_orphaned", description="by event")
durations = _meter.create_histogram(
    "trusted_service.upstream_duration", "s", "by upstream, operation and status (0: no response)"
)
_job_rows = _meter.create_counter("trusted_service.job_rows", description="by action and result")
_canary = _meter.create_counter("trusted_service.canary", description="runs, by result and upstream")


def canary(result: Literal["ok", "failed", "waiting"], upstream: str = "") -> None:
    """Count a run of the canary; `upstream` is the one that failed."""
    _canary.add(1, {"result": result, "upstream": upstream})


def count_job_rows(action: str, results: Iterable[str]) -> None:
    """Count the rows of a job that are over, by result."""
    for result, rows in Counter(results).items():
        if result != "pending":
            _job_rows.add(rows, {"action": action, "result": result})
