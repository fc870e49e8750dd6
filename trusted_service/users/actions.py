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
    ends_access: bool = False
    status: int = 200

    def run(
        self,
        administration: Administration,
        actor: Actor,
        user_id: UserId,
        reason: str = "",
        *,
        confirmed: bool = False,
    ) -> object:
        """Perform the action. Returns and raises what the method of `Administration` does.

        `confirmed`: even if that leaves no administrator.
        """
        arguments = (actor, user_id, reason) if self.takes_reason else (actor, user_id)
        return self.method(
            administration, *arguments, **({"confirmed": confirmed} if self.ends_access else {})
        )


_BLOCK = "Also one of an allowed tenant who never signed in. Ends sessions and revokes tokens."
_TWICE = "Yourself, or without `confirm` the last administrator: 409."
_DELETE = "Succeeds whether or not there is anything to erase. A block stays."
LAST_ADMINISTRATOR = "last-administrator"
"""What confirms a block or deletion that leaves no administrator."""
ACTIONS = {
    action.name: action
    for action in (
        Action(
            *("block", Administration.block, "Block a user", "Blocked.", f"{_BLOCK} {_TWICE}"),
            takes_reason=True,
            ends_access=True,
        ),
        Action("unblock", Administration.unblock, "Unblock a user", "Unblocked."),
        Action("revoke", Administration.revoke, "Revoke a user's tokens", "Tokens are revoked."),
        Action("sign-out", Administration.sign_out, "End a user's sessions", "All sessions are ended."),
        Action(
            *("delete", Administration.delete, "Erase a user", "Deleted.", f"{_DELETE} {_TWICE}"),
            ends_access=True,
            status=204,
        ),
    )
}
"""In the order in which pages and the API's description show them."""
