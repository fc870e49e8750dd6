"""Restores former identities, and moves users to another Communication Services resource."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from trusted_service.access.identity_switch import IdentitySwitch
from trusted_service.access.resource_pin import Pin, ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure.communication import Communication
from trusted_service.errors import ChangedTooOften, Conflict
from trusted_service.models import Actor, Identity, UserId, find_resource
from trusted_service.storage.attempts import attempts
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A move to the resource `to`, and how many users have an identity of each other resource."""

    pin: Pin | None
    to: str
    users: dict[str, int]

    @property
    def needed(self) -> bool:
        former = self.pin.former if self.pin else frozenset()
        return self.pin is None or self.pin.resource != self.to or not set(self.users) <= former


@dataclass(frozen=True, slots=True)
class Restoration:
    identities: IdentityTable
    sessions: SessionTable
    ledger: Ledger
    communication: Communication
    identity_switch: IdentitySwitch
    index: UserIndex
    pin: ResourcePin
    audit: AuditTrail

    def restore(self, actor: Actor, user_id: UserId, acs_user_id: str) -> Identity:
        """Point the mapping back at a former identity. Raises Conflict for any other, and NotFound."""
        for _ in attempts():
            with suppress(RowChanged):
                return self._restore(actor, user_id, acs_user_id)
        raise ChangedTooOften

    def _restore(self, actor: Actor, user_id: UserId, acs_user_id: str) -> Identity:
        entry = self.ledger.find(acs_user_id)
        if entry is None or entry.owner != user_id:
            raise Conflict("This is not a former identity of this user.")
        if self.pin.standing(entry.acs_user_id, fresh=True) != "own":
            raise Conflict("The identity belongs to another Communication Services resource.")
        identity = self.identities.get(user_id)
        if identity.deleting:
            raise Conflict("The user is being deleted.")
        with self.audit.action(actor, "restore", user_id):
            if identity.acs_user_id == entry.acs_user_id:  # an earlier call was interrupted after that
                self.sessions.forget_identity(user_id)
                row = self.identities.update(identity, switching=False, missing_since=None)
            else:
                row = self.identity_switch.switch(identity, entry.acs_user_id, "replaced")
            self.ledger.reopen(entry)
            self.index.update(user_id, force=True)
        return row

    def plan_move(self) -> Move:
        """Find the resource that responds, with an identity that is deleted again. Raises Conflict."""
        to = self.communication.find_own_resource()
        if to is None:
            raise Conflict("The ids of this Communication Services resource do not name it.")
        resources = (find_resource(identity.acs_user_id or "") for identity in self.identities.all())
        users = Counter(resource for resource in resources if resource and resource != to)
        return Move(pin=self.pin.find(fresh=True), to=to, users=users)

    def move(self, actor: Actor, plan: Move) -> None:
        """Accept the resource. Raises Conflict if the pin has changed since the plan was made."""
        former = frozenset(plan.users)
        if plan.pin is not None:
            former |= plan.pin.former | {plan.pin.resource}
        detail = f"{plan.pin.resource if plan.pin else 'none'} -> {plan.to}"
        with self.audit.action(actor, "move-resource", None, detail):
            self.pin.move(plan.pin, plan.to, former)

    def identity_map(self) -> Iterator[tuple[str, str, str, str]]:
        """Every identity ever issued, the object and tenant id of its user, `mapped` or `archive-only`."""
        current: set[str] = set()
        for identity in self.identities.all():
            if identity.acs_user_id is not None:
                current.add(identity.acs_user_id.lower())
                yield identity.acs_user_id, identity.user_id.object_id, identity.user_id.tenant_id, "mapped"
        for entry in self.ledger.all():
            if entry.acs_user_id.lower() not in current:
                # Without an end, it may be that of a user who came after the rows were read.
                row = self.identities.find(entry.owner) if entry.owner and entry.until is None else None
                is_current = row is not None and row.acs_user_id == entry.acs_user_id
                tenant_id, object_id = entry.owner or ("", "")
                yield entry.acs_user_id, object_id, tenant_id, "mapped" if is_current else "archive-only"
