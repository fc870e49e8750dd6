"""Remembers which Communication Services resource the identities of this storage belong to.

A slot swap, a typing error in the endpoint or a restored backup can make another resource answer. It knows
none of the identities, so believing it would replace every one of them.
"""

from typing import Literal

import structlog

from trusted_service.communication import Communication
from trusted_service.errors import UpstreamError, WrongResource
from trusted_service.models import find_resource
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import LedgerTable, Pin
from trusted_service.storage.tables import RowExists

log = structlog.get_logger(__name__)

Standing = Literal["own", "moved", "foreign"]
"""Of an identity: of the pinned resource, of one that users are moved away from, or of any other."""


class ResourcePin:
    """One for each process, which refreshes it every few seconds (`upkeep`).

    Methods raise UpstreamError where the storage fails.
    """

    def __init__(self, ledger: LedgerTable, identities: IdentityTable, communication: Communication) -> None:
        self._ledger = ledger
        self._identities = identities
        self._communication = communication
        self._pin: Pin | None = None

    def find(self, *, fresh: bool = False) -> Pin | None:
        """The pin as it was last read, or now; None while nobody has an identity.

        A storage that is older than the pin is pinned to the resource of its first mapped row.
        """
        if fresh or self._pin is None:
            self._pin = self._ledger.find_pin() or self._pin_existing()
        return self._pin

    def refresh(self) -> None:
        self.find(fresh=True)

    def standing(self, acs_user_id: str, *, fresh: bool = False) -> Standing:
        """How the identity stands to the pin, as it was last read or, if `fresh`, as it is now."""
        pin = self.find(fresh=fresh)
        resource = find_resource(acs_user_id)
        if pin is None or resource in (pin.resource, None):
            return "own"
        return "moved" if resource in pin.former else "foreign"

    def admit(self, acs_user_id: str) -> None:
        """Accept an identity that was just created; the first one of a storage pins it to its resource.

        Raises WrongResource where it belongs to another resource than the pinned one.
        """
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
        """Raises UpstreamError unless Communication Services responds, as the pinned resource if there is
        one."""
        self._communication.check()
        try:
            pin = self.find()
        except UpstreamError:
            return  # of the storage, which is checked by itself
        if pin is None:
            return
        try:
            owned = self._communication.owns(pin.resource)
        except UpstreamError:
            return  # it responds, though not to this
        if not owned and (pin := self.find(fresh=True)) and not self._communication.owns(pin.resource):
            raise WrongResource(pin.resource)

    def move(self, pin: Pin | None, resource: str, former: frozenset[str]) -> None:
        """Accept another resource, and that identities of the former ones are given up one by one.

        Raises RowChanged or RowExists where `pin` is not what is stored.
        """
        moved = Pin(resource=resource, former=former - {resource})
        if pin is None:
            self._ledger.insert_pin(moved)
        else:
            self._ledger.replace_pin(moved, version=pin.version)
        self._pin = moved

    def _pin_existing(self) -> Pin | None:
        first = self._identities.find_first_mapped()
        resource = find_resource(first.acs_user_id or "") if first else None
        return self._insert(resource) if resource else None

    def _insert(self, resource: str) -> Pin:
        pin = Pin(resource=resource)
        try:
            self._ledger.insert_pin(pin)
        except RowExists:
            pin = self._ledger.find_pin() or pin
        else:
            log.info("resource_pinned", resource=resource)
        self._pin = pin
        return pin
