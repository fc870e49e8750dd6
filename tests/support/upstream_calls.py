"""The upstream calls that requests make, and how to make one fail."""

from dataclasses import dataclass
from typing import Any

from tests.support.own_azure import World
from tests.support.storage_proxy import Fault, Kind


@dataclass(frozen=True, kw_only=True)
class UpstreamCall:
    """An operation of Communication Services, or a method on a table."""

    name: str
    acs: str = ""
    method: str = ""
    table: str = ""
    also: str = ""  # text that the body of a storage call contains
    skip: int = 0  # earlier calls of the same kind to let through

    def __str__(self) -> str:
        return self.name


SESSION_READ = UpstreamCall(name="session read", method="GET", table="sessions")
LAST_LOOK = UpstreamCall(name="last look at the session", method="GET", table="sessions", skip=1)
SESSIONS_QUERY = UpstreamCall(name="sessions query", method="GET", table="sessions")
SESSION_INSERT = UpstreamCall(name="session insert", method="POST", table="sessions")
SESSION_WRITE = UpstreamCall(name="session write", method="P", table="sessions")
SESSION_DELETE = UpstreamCall(name="session delete", method="DELETE", table="sessions")
IDENTITY_READ = UpstreamCall(name="identity read", method="GET", table="identities")
INSERT = UpstreamCall(name="insert", method="POST", table="identities")
MERGE = UpstreamCall(name="identity merge", method="PATCH", table="identities")
HOLD = UpstreamCall(name="identity hold", method="PATCH", table="identities", also='"Switching": true')
SWITCH = UpstreamCall(name="identity switch", method="PATCH", table="identities", also='"AcsUserId"')
UNMARK_BLOCK = UpstreamCall(name="block end", method="PATCH", table="identities", also='"Blocking": false')
REMOVE = UpstreamCall(name="identity delete", method="DELETE", table="identities")
LEDGER_READ = UpstreamCall(name="ledger read", method="GET", table="ledger")
LEDGER_WRITE = UpstreamCall(name="ledger write", method="P", table="ledger")
AUDIT_WRITE = UpstreamCall(name="audit insert", method="P", table="audit")
AUDIT_QUERY = UpstreamCall(name="audit query", method="GET", table="audit")
BATCH = UpstreamCall(name="batch", table="$batch")
CREATE = UpstreamCall(name="create", acs="create")
ISSUE = UpstreamCall(name="issue", acs="issue")
REVOKE = UpstreamCall(name="revoke", acs="revoke")
DELETE = UpstreamCall(name="delete", acs="delete")


def fail_call(
    world: World, call: UpstreamCall, kind: Kind, *, retry_after: str | None = None, **members: Any
) -> Fault | None:
    """Make a call fail, by default until cleared; `members` as in `Fault`. Return the storage's fault."""
    if call.acs:
        then = "hang" if kind == "hang-after-commit" else "status"
        kind = "fail-after-commit" if kind == "hang-after-commit" else kind
        members = {"times": None, "status": 503, "retryAfter": retry_after} | members
        world.azure.plant_fault("acs", call.acs, kind, skip=call.skip, then=then, **members)
        return None
    members |= {"method": call.method, "table": call.table, "also": call.also, "skip": call.skip}
    fault = Fault(kind=kind, retry_after=retry_after, **members)
    world.storage.plant(fault)
    return fault
