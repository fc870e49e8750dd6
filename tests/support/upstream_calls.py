"""The calls that a token request makes, in their order, and how to let one of them fail."""

from dataclasses import dataclass
from typing import Literal

from tests.support.local_azure import LocalAzure
from tests.support.storage_proxy import Fault, StorageProxy

Kind = Literal["status", "reset", "hang", "half", "drip", "delay", "fail-after-commit", "hang-after-commit"]


@dataclass(frozen=True, kw_only=True)
class UpstreamCall:
    """An operation of Communication Services, or a method on a table; `skip` calls of its kind come first.

    `also` is what a call to the storage has in its body.
    """

    name: str
    acs: str = ""
    method: str = ""
    table: str = ""
    also: str = ""
    skip: int = 0

    def __str__(self) -> str:
        """The name, as pytest shows it."""
        return self.name


SESSION_READ = UpstreamCall(name="session read", method="GET", table="sessions")
IDENTITY_READ = UpstreamCall(name="identity read", method="GET", table="identities")
CREATE = UpstreamCall(name="create", acs="create")
INSERT = UpstreamCall(name="insert", method="POST", table="identities")
LAST_LOOK = UpstreamCall(name="last look at the session", method="GET", table="sessions", skip=1)
ISSUE = UpstreamCall(name="issue", acs="issue")


@dataclass(frozen=True)
class Upstreams:
    """Both upstreams of a token request, each with its own way to plant a fault."""

    azure: LocalAzure
    storage: StorageProxy

    def plant(
        self,
        call: UpstreamCall,
        kind: Kind,
        *,
        times: int | None = None,
        status: int = 503,
        retry_after: str | None = None,
        seconds: float = 1.0,
        about: str = "",
        body: object = None,
        code: str | None = None,
    ) -> Fault | None:
        """Let this call fail, until cleared unless `times` is given; return the storage's fault.

        `about` is what its path or body holds; `body` and `code` are for Communication Services only.
        """
        if call.acs:
            then = "status"
            if kind == "hang-after-commit":
                kind, then = "fail-after-commit", "hang"
            members = {
                "status": status,
                "retryAfter": retry_after,
                "seconds": seconds,
                "body": body,
                "code": code,
                "then": then,
                "about": about,
            }
            self.azure.plant_fault("acs", call.acs, kind, times=times, skip=call.skip, **members)
            return None
        fault = Fault(
            kind=kind,
            method=call.method,
            table=call.table,
            times=times,
            skip=call.skip,
            status=status,
            retry_after=retry_after,
            seconds=seconds,
            about=about,
            also=call.also,
        )
        self.storage.plant(fault)
        return fault

    def clear(self) -> None:
        """Remove every fault."""
        self.azure.clear_faults()
        self.storage.clear()
