"""The canary: issues a real token for an identity of its own, so that a failure is known before users come.

The row `resource/canary` of the ledger's table names that identity, so no list, export or map has it. The
row's version decides whose turn it is: a process checks if no other has since it last looked. No clock does.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from trusted_service.access.resource_pin import ResourcePin
from trusted_service.azure import deadlines
from trusted_service.azure.communication import Communication
from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import IdentityNotFound, UpstreamError, UpstreamUnavailable, WrongResource
from trusted_service.observability import metrics
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, version_of

log = structlog.get_logger(__name__)

SECONDS, MAX_SECONDS = 60.0, 25.0
"""Between two looks, and for one: with jitter, two in a row can fail within five minutes."""
CREATION_SECONDS = 3600.0
"""Between two attempts to create the identity: each may leave one, if its response is lost."""
KEY = {"PartitionKey": "resource", "RowKey": "canary"}
TOKEN_MINUTES = 60

Check = Callable[[], object]


@dataclass(slots=True)
class Canary:
    """One for each process. `checks` are made beside the token, and raise UpstreamError."""

    table: Table
    pin: ResourcePin
    communication: Communication
    scopes: tuple[str, ...]
    checks: Sequence[Check]
    _version: str = ""
    _healthy: bool = False
    _next_creation: float = 0.0

    def run(self) -> None:
        """If it is this process's turn, check every upstream, and log each that fails."""
        request_id = str(uuid.uuid4())
        failures: list[UpstreamError | None]
        with (
            deadlines.request_budget(request_id, MAX_SECONDS),
            structlog.contextvars.bound_contextvars(request_id=request_id),
        ):
            try:
                if (row := self._take_turn()) is None:
                    return
                checks: list[Check] = [partial(self._check_token, row), *self.checks]
                failures = map_parallel(_find_failure, checks)
            except UpstreamError as storage_error:
                failures = [storage_error]
            for failure in filter(None, failures):
                log.error(
                    "canary_failed", upstream=failure.upstream, reason=failure.reason, **failure.details
                )
                metrics.canary("failed", failure.upstream)
            was_healthy, self._healthy = self._healthy, not any(failures)
            if self._healthy:
                metrics.canary("ok")
            if self._healthy and not was_healthy:
                log.info("canary_ok")

    def _take_turn(self) -> Row | None:
        """The row, unless another process has written it since this one last looked."""
        if (row := self.table.find(*KEY.values())) is None:
            with suppress(RowExists):
                self._version = self.table.insert({**KEY, "AcsUserId": ""})
        elif version_of(row) != self._version:
            self._version = version_of(row)
        else:
            with suppress(RowChanged):
                self._version = self.table.merge(KEY, version=self._version)
                return row
        return None

    def _check_token(self, row: Row) -> None:
        """Issue a token. Without a pin no user has an identity yet, and this must not be the first."""
        acs_user_id, pin = str(row["AcsUserId"]), self.pin.find(fresh=True)
        if pin is None:
            return
        if not acs_user_id or self.pin.standing(acs_user_id) == "moved":
            if not self.communication.owns(pin.resource):  # fails in an outage, and creates nothing
                raise WrongResource(pin.resource)
            if time.monotonic() >= self._next_creation:
                self._create()
            return
        try:
            self.communication.issue_token(acs_user_id, self.scopes, TOKEN_MINUTES)
        except IdentityNotFound:
            # It may be the first sign of a wrong setting, so it is never a reason to create another one.
            reason = "the canary's identity does not exist"
            raise UpstreamUnavailable("Communication Services", reason) from None

    def _create(self) -> None:
        self._next_creation = time.monotonic() + CREATION_SECONDS
        created, _ = self.communication.create_identity(self.scopes, TOKEN_MINUTES)
        try:
            self.pin.admit(created)
            self._version = self.table.merge({**KEY, "AcsUserId": created}, version=self._version)
            self._next_creation = 0.0
        except (UpstreamError, RowChanged) as error:
            # Not deleted: if the outcome is unknown, the row names it.
            log.error("identity_orphaned", acs_user_id=created, reason=str(error))
            if isinstance(error, UpstreamError):
                raise


def _find_failure(check: Check) -> UpstreamError | None:
    try:
        check()
    except UpstreamError as error:
        return error
    return None
