"""Brings back what a wrong answer, a wrong setting or a lost resource took: former identities."""

from collections.abc import Iterator
from dataclasses import dataclass

from trusted_service.audit import AuditTrail
from trusted_service.communication import Communication
from trusted_service.errors import Conflict, NotFound, UpstreamUnavailable
from trusted_service.identity_history import IdentityHistory
from trusted_service.identity_switch import IdentitySwitch
from trusted_service.models import Actor, Identity, LedgerEntry, UserId, find_resource
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Pin
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import SERVICE, RowChanged, RowExists
from trusted_service.user_index import UserIndex

ATTEMPTS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """What a move to the resource `to` changes: the users of each other resource give theirs up.

    `pin` is None where nothing was pinned yet.
    """

    pin: Pin | None
    to: str
    users: dict[str, int]

    @property
    def needed(self) -> bool:
        former = self.pin.former if self.pin else frozenset()
        return self.pin is None or self.pin.resource != self.to or not set(self.users) <= former


class Restoration:
    """Methods raise UpstreamError where an upstream fails, and may then be called again."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        sessions: SessionTable,
        communication: Communication,
        history: IdentityHistory,
        switch: IdentitySwitch,
        index: UserIndex,
        pin: ResourcePin,
        audit: AuditTrail,
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._communication = communication
        self._history = history
        self._switch = switch
        self._index = index
        self._pin = pin
        self._audit = audit

    def restore(self, actor: Actor, user_id: UserId, acs_user_id: str) -> Identity:
        """Point the user's mapping back at a former identity of theirs, and return the row.

        Raises Conflict where it is not one, or belongs to another resource, and NotFound where the user
        has no row.
        """
        for _ in range(ATTEMPTS):
            entry = self._history.find(acs_user_id)
            if entry is None or entry.owner != user_id:
                raise Conflict("This is not a former identity of this user.")
            if self._pin.standing(entry.acs_user_id, fresh=True) != "own":
                raise Conflict("The identity belongs to another Communication Services resource.")
            identity = self._identities.find(user_id)
            if identity is None:
                raise NotFound
            if identity.deleting:
                raise Conflict("The user is being deleted.")
            try:
                return self._restore(actor, identity, entry)
            except RowChanged:
                continue
        raise UpstreamUnavailable(SERVICE, "the row changed too often")

    def _restore(self, actor: Actor, identity: Identity, entry: LedgerEntry) -> Identity:
        detail = f"{identity.acs_user_id} -> {entry.acs_user_id}"
        with self._audit.action(actor, "restore", identity.user_id, detail):
            if identity.acs_user_id == entry.acs_user_id:  # a former call was interrupted after that
                self._sessions.forget_identity(identity.user_id)
                row = self._identities.release(identity)
            else:
                row = self._switch.point(identity, entry.acs_user_id, "replaced")
            self._history.reopen(entry)
            self._index.update(identity.user_id, force=True)
        return row

    def plan_move(self) -> Move:
        """Find the resource that answers now, and the users whose identity belongs to another one.

        Creates one identity and deletes it again. Raises Conflict for an id that names no resource.
        """
        to = self._communication.find_own_resource()
        if to is None:
            raise Conflict("The ids of this Communication Services resource do not name it.")
        users: dict[str, int] = {}
        for identity in self._identities.all():
            resource = find_resource(identity.acs_user_id or "")
            if resource is not None and resource != to:
                users[resource] = users.get(resource, 0) + 1
        return Move(pin=self._pin.find(fresh=True), to=to, users=users)

    def move(self, actor: Actor, plan: Move) -> None:
        """Accept the resource: each user of another one gets an identity of it with their next token.

        Raises Conflict where somebody else has moved the users since the plan was made.
        """
        former = frozenset(plan.users)
        if plan.pin is not None:
            former |= plan.pin.former | {plan.pin.resource}
        detail = f"{plan.pin.resource if plan.pin else 'none'} -> {plan.to}"
        with self._audit.action(actor, "move-resource", None, detail):
            try:
                self._pin.move(plan.pin, plan.to, former)
            except (RowChanged, RowExists) as error:
                raise Conflict("Somebody else has changed the resource meanwhile.") from error

    def identity_map(self) -> Iterator[tuple[str, str, str, str]]:
        """Every identity ever issued: its id, the object and tenant id of its user, `mapped` or
        `archive-only`.

        Holds the current ids in memory. After an erasure the user's columns are empty.
        """
        current: set[str] = set()
        for identity in self._identities.all():
            if identity.acs_user_id is not None:
                current.add(identity.acs_user_id.lower())
                tenant_id, object_id = identity.user_id
                yield identity.acs_user_id, object_id, tenant_id, "mapped"
        for entry in self._history.all():
            if entry.acs_user_id.lower() not in current:
                tenant_id, object_id = entry.owner or ("", "")
                yield entry.acs_user_id, object_id, tenant_id, "archive-only"
