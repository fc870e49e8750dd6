"""The actions on one user: the table that drives routes, forms, commands and their descriptions."""

from collections.abc import Callable
from dataclasses import dataclass

from trusted_service.models import Actor, UserId
from trusted_service.users.administration import Administration


@dataclass(frozen=True, slots=True)
class Action:
    """`name` is also the last path segment and the name in the audit trail; `status` is the API's.

    `takes`: of `reason`, and `confirmed`, which means even if that leaves no administrator.
    """

    name: str
    method: Callable[..., object]
    summary: str
    done_text: str  # for operators
    description: str = ""
    takes: tuple[str, ...] = ()
    status: int = 200

    @property
    def ends_access(self) -> bool:
        return "confirmed" in self.takes

    def run(self, administration: Administration, actor: Actor, user_id: UserId, **given: object) -> object:
        """Perform the action, with what it `takes` of these. Returns and raises what its method does."""
        return self.method(administration, actor, user_id, **{name: given[name] for name in self.takes})


_BLOCK = "Also one of an allowed tenant who never signed in. Ends sessions and revokes tokens."
_TWICE = "Refused for yourself and, unless confirmed, for the last administrator."
_DELETE = "Succeeds whether or not there is anything to erase. A block stays."
LAST_ADMINISTRATOR = "last-administrator"
"""What confirms a block or deletion that leaves no administrator."""
ACTIONS = {
    action.name: action
    for action in (
        Action(
            *("block", Administration.block, "Block a user", "Blocked.", f"{_BLOCK} {_TWICE}"),
            takes=("reason", "confirmed"),
        ),
        Action("unblock", Administration.unblock, "Unblock a user", "Unblocked."),
        Action("revoke", Administration.revoke, "Revoke a user's tokens", "Tokens are revoked."),
        Action("sign-out", Administration.sign_out, "End a user's sessions", "All sessions are ended."),
        Action(
            *("delete", Administration.delete, "Erase a user", "Deleted.", f"{_DELETE} {_TWICE}"),
            takes=("confirmed",),
            status=204,
        ),
    )
}
"""In the order in which pages and the API's description show them."""
