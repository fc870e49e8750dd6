"""The actions on one user: the table that drives routes, forms, commands and their descriptions."""

from collections.abc import Callable
from dataclasses import dataclass

from trusted_service.models import Actor, UserId
from trusted_service.users.administration import Administration


@dataclass(frozen=True, slots=True)
class Action:
    """`name` is also the last path segment and the name in the audit trail; `status` is the API's."""

    name: str
    method: Callable[..., object]
    summary: str
    done_text: str  # for operators
    description: str = ""
    takes_reason: bool = False
    status: int = 200

    def run(self, administration: Administration, actor: Actor, user_id: UserId, reason: str = "") -> object:
        """Perform the action. Returns and raises what the method of `Administration` does."""
        arguments = (actor, user_id, reason) if self.takes_reason else (actor, user_id)
        return self.method(administration, *arguments)


_BLOCK = "Also one of an allowed tenant who never signed in. Ends sessions and revokes tokens."
_DELETE = "Succeeds whether or not there is anything to erase. A block stays."
ACTIONS = {
    action.name: action
    for action in (
        Action("block", Administration.block, "Block a user", "Blocked.", _BLOCK, takes_reason=True),
        Action("unblock", Administration.unblock, "Unblock a user", "Unblocked."),
        Action("revoke", Administration.revoke, "Revoke a user's tokens", "Tokens are revoked."),
        Action("sign-out", Administration.sign_out, "End a user's sessions", "All sessions are ended."),
        Action("delete", Administration.delete, "Erase a user", "Deleted.", _DELETE, status=204),
    )
}
"""In the order in which pages and the API's description show them."""
