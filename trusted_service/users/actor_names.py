"""The names of administrators for display: rows about what they did hold only their ids."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from trusted_service.azure import deadlines
from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import UpstreamError
from trusted_service.models import Actor, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable

SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class ActorNames:
    identities: IdentityTable
    sessions: SessionTable

    def find(self, actors: Iterable[Actor]) -> dict[str, str]:
        """The name of each administrator by key: "" if nobody is known by it, or the storage fails."""
        users = {actor.key: actor.user_id for actor in actors if actor.user_id}
        seconds = min(SECONDS, deadlines.seconds_left())
        with deadlines.request_budget(deadlines.current_request_id() or "", seconds):
            return dict(zip(users, map_parallel(self._find, [*users.values()]), strict=True))

    def _find(self, user_id: UserId) -> str:
        with suppress(UpstreamError):
            identity = self.identities.find(user_id)
            if identity is not None and (name := identity.username or identity.name):
                return name
            # Someone who only administers has no identity.
            for session in self.sessions.list_by_user(user_id):
                return session.user.username or session.user.name
        return ""
