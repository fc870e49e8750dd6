"""Remembers which resource the identities belong to: another may respond after a slot swap or restore."""

from dataclasses import dataclass
from typing import Literal

import structlog

from trusted_service.azure.communication import Communication
from trusted_service.errors import Conflict, UpstreamError, WrongResource
from trusted_service.models import find_resource
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import RowChanged, RowExists, Table, version_of

log = structlog.get_logger(__name__)

Standing = Literal["own", "moved", "foreign"]
"""Of an identity: of the pinned resource, of one that users are being moved away from, or of any other."""
KEY = ("resource", "pin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """The resource (`8:acs:<GUID>`) of new identities, and those that users are being moved away from."""

    resource: str
    former: frozenset[str] = frozenset()
    version: str = ""

    def row(self) -> dict[str, str]:
        former = ",".join(sorted(self.former))
        return {"PartitionKey": KEY[0], "RowKey": KEY[1], "Resource": self.resource, "Former": former}


class ResourcePin:
    """One for each process, which refreshes it every few seconds. `table` is the ledger's."""

    def __init__(self, table: Table, identities: IdentityTable, communication: Communication) -> None:
        self._table = table
        self._identities = identities
        self._communication = communication
        self._pin: Pin | None = None

    def find(self, *, fresh: bool = False) -> Pin | None:
        """The pin as last read or, if `fresh`, as it is now; None until the first identity exists."""
        if fresh or self._pin is None:
            self._pin = self._read() or self._pin_existing()
        return self._pin

    def standing(self, acs_user_id: str, *, fresh: bool = False) -> Standing:
        """How the identity relates to the pin, as last read or, if `fresh`, as it is now."""
        pin = self.find(fresh=fresh)
        resource = find_resource(acs_user_id)
        if pin is None or resource in (pin.resource, None):
            return "own"
        return "moved" if resource in pin.former else "foreign"

    def admit(self, acs_user_id: str) -> None:
        """Accept a new identity; the first one pins its resource. Raises WrongResource for another's."""
        resource = find_resource(acs_user_id)
        if resource is None:
            return
        pin = self.find() or self._insert(resource)
        if pin.resource != resource:
            pin = self.find(fresh=True) or pin
        if pin.resource != resource:
            log.error("wrong_resource", expected=pin.resource, found=resource)
            raise WrongResource(pin.resource, resource)

    def check(self) -> None:
        """Raises UpstreamError unless Communication Services responds, as the pinned resource if any."""
        self._communication.check()
        try:
            pin = self.find()
            owned = pin is None or self._communication.owns(pin.resource)
        except UpstreamError as error:
            if error.upstream == "Communication Services" and not error.responded:
                raise
            return  # the storage is checked separately, and any response of Communication Services will do
        if not owned and (pin := self.find(fresh=True)) and not self._communication.owns(pin.resource):
            raise WrongResource(pin.resource)

    def move(self, pin: Pin | None, resource: str, former: frozenset[str]) -> None:
        """Accept another resource. Raises Conflict if `pin` is not what is stored."""
        moved = Pin(resource=resource, former=former - {resource})
        try:
            if pin is None:
                self._table.insert(moved.row())
            else:
                self._table.replace(moved.row(), version=pin.version)
        except (RowChanged, RowExists) as error:
            raise Conflict("The resource was changed meanwhile.") from error
        self._pin = moved

    def _read(self) -> Pin | None:
        row = self._table.find(*KEY)
        if row is None:
            return None
        former = frozenset(filter(None, str(row.get("Former") or "").split(",")))
        return Pin(resource=row["Resource"], former=former, version=version_of(row))

    def _pin_existing(self) -> Pin | None:
        """Pin a storage that is older than the pin to the resource of its first mapped row."""
        first = self._identities.find_first_mapped()
        resource = find_resource(first.acs_user_id or "") if first else None
        return self._insert(resource) if resource else None

    def _insert(self, resource: str) -> Pin:
        pin = Pin(resource=resource)
        try:
            self._table.insert(pin.row())
            log.info("resource_pinned", resource=resource)
        except RowExists:
            pin = self._read() or pin
        self._pin = pin
        return pin
