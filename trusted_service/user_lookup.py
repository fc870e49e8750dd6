"""Finds one user, by any of their ids. Reads the mapping row, which is the truth."""

from collections.abc import Iterator, Sequence

from trusted_service.identity_history import IdentityHistory
from trusted_service.models import Identity, UserId, find_resource, parse_guid
from trusted_service.parallel import map_parallel
from trusted_service.storage.identities import IdentityTable


class UserLookup:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, identities: IdentityTable, history: IdentityHistory) -> None:
        self._identities = identities
        self._history = history

    def find(self, user_id: UserId) -> Identity | None:
        return self._identities.find(user_id)

    def find_many(self, user_ids: Sequence[UserId]) -> list[Identity | None]:
        return map_parallel(self._identities.find, user_ids)

    def all(self) -> Iterator[Identity]:
        """Every mapping row, in no order that means anything, a page in memory at a time."""
        return self._identities.all()

    def find_by_text(self, text: str) -> list[Identity] | None:
        """The users of an object id, of `<tenant id>/<object id>` or of an ACS user id; None for other text.

        An ACS user id finds its owner, even if it is a former identity of theirs.
        """
        text = text.strip()
        if find_resource(text):
            return self._find_owner(text)
        tenant_id, slash, object_id = text.rpartition("/")
        try:
            if slash:
                identity = self._identities.find(UserId.parse(tenant_id, object_id))
                return [] if identity is None else [identity]
            return self._identities.find_in_all_tenants(parse_guid(text))
        except ValueError:
            return None

    def _find_owner(self, acs_user_id: str) -> list[Identity]:
        entry = self._history.find(acs_user_id)
        if entry is None or entry.owner is None or entry.acs_user_id != acs_user_id:
            return []
        user = self._identities.find(entry.owner)
        return [] if user is None else [user]
