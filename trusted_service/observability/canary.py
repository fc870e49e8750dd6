"""The canary: issues a real token for an identity of its own, so that a failure is known before users come.

The row `resource/canary` of the ledger's table names that identity, whose entry has no owner: so no list of
users has it, and `users identity-map` has it as archive-only. It is created after the first user's, and two
minutes after the start at the earliest. The row's version decides whose turn it is: a process runs the check
if no other has done so since it last read the row. No clock does.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from trusted_service import errors
from trusted_service.access.new_identities import NewIdentities
from trusted_service.access.resource_pin import Pin, ResourcePin
from trusted_service.azure import deadlines
from trusted_service.azure.communication import Communication
from trusted_service.azure.parallel import find_failures
from trusted_service.models import LedgerEntry, UserId
from trusted_service.observability import metrics
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, version_of

log = structlog.get_logger(__name__)

FIRST_SECONDS, SECONDS, MAX_SECONDS = 120.0, 30.0, 25.0
"""Until the first look, between two, and for one; docs/operate.md says how soon an alert fires then."""
CREATION_SECONDS = 600.0
"""From a creation that may have left an identity behind to the next one."""
CANARY = UserId("resource", "canary")
KEY = {"PartitionKey": CANARY.tenant_id, "RowKey": CANARY.object_id}
TOKEN_MINUTES = 60


@dataclass(slots=True)
class Canary:
    """One for each process. `checks` are made beside the token, and raise UpstreamError."""

    table: Table
    ledger: Ledger
    pin: ResourcePin
    communication: Communication
    new_identities: NewIdentities
    scopes: tuple[str, ...]
    checks: Sequence[Callable[[], object]]
    _version: str = ""
    _healthy: bool = False
    _next_creation: float = 0.0

    def run(self) -> None:
        """If it is this process's turn, check every upstream, and log each that fails."""
        request_id = str(uuid.uuid4())
        with (
            deadlines.request_budget(request_id, MAX_SECONDS),
            structlog.contextvars.bound_contextvars(request_id=request_id),
        ):
            try:
                if (row := self._take_turn()) is None:
                    return
                pin = self.pin.find(fresh=True)
            except errors.UpstreamError as failure:
                self._report([failure])
                return
            # Without a pin no user has an identity yet, and this must not be the first.
            check = partial(self._check_token, row, pin) if pin else self.communication.check
            failures = find_failures([check, *self.checks])
            if pin or any(failures):
                self._report(failures)
            else:
                metrics.canary("waiting")

    def _report(self, failures: Sequence[errors.UpstreamError | None]) -> None:
        # One for each upstream, as the run is one.
        for failure in {one.upstream: one for one in reversed(failures) if one}.values():
            log.error("canary_failed", **failure.log_fields)
            metrics.canary("failed", failure.upstream)
        was_healthy, self._healthy = self._healthy, not any(failures)
        if self._healthy:
            metrics.canary("ok")
            if not was_healthy:
                log.info("canary_ok")

    def _take_turn(self) -> Row | None:
        """The row, unless another process has written it since this one last looked."""
        row = self.table.find(*KEY.values())
        with suppress(RowChanged, RowExists):
            if row is None:
                self._version = self.table.insert({**KEY, "AcsUserId": ""})
            elif version_of(row) == self._version:
                self._version = self.table.merge(KEY, version=self._version)
                return row
            else:
                self._version = version_of(row)
        return None

    def _check_token(self, row: Row, pin: Pin) -> None:
        acs_user_id = str(row["AcsUserId"])
        if not acs_user_id or self.pin.standing(acs_user_id) == "moved":
            if not self.communication.owns(pin.resource):  # fails in an outage, and creates nothing
                raise errors.WrongResource(pin.resource)
            self._create()
            return
        try:
            self.communication.issue_token(acs_user_id, self.scopes, TOKEN_MINUTES)
        except errors.IdentityNotFound:
            # It may be the first sign of a wrong setting, so it is never a reason to create another one.
            reason = "the canary's identity does not exist"
            raise errors.UpstreamUnavailable("Communication Services", reason) from None

    def _create(self) -> None:
        """Create the identity with its first token. The ledger has whatever the row may name."""
        if time.monotonic() < self._next_creation:
            raise errors.UpstreamUnavailable("Communication Services", "the canary has no identity yet")
        created = ""
        try:
            created, _ = self.new_identities.create(CANARY, self.scopes, TOKEN_MINUTES)
            self.ledger.restore(LedgerEntry(acs_user_id=created, owner=None))
            self._version = self.table.merge({**KEY, "AcsUserId": created}, version=self._version)
        except (errors.UpstreamError, RowChanged) as error:
            failure = error if isinstance(error, errors.UpstreamError) else errors.ChangedTooOften()
            if failure.outcome_unknown:
                self._next_creation = time.monotonic() + CREATION_SECONDS
            if created:
                self.new_identities.discard_after(failure, CANARY, created)
            raise failure from None
