"""Faults that tests plant: which operation fails, how, and how often."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from local_azure.documents import Members

Kind = Literal["status", "hang", "reset", "delay", "half", "drip", "fail-after-commit", "refuse"]
AfterCommit = Literal["status", "reset", "hang"]
Service = Literal["entra", "acs", "ingestion"]

OPERATIONS: Mapping[Service, tuple[str, ...]] = {
    "entra": ("discovery", "keys", "authorize", "token", "logout", "msi"),
    "acs": ("create", "issue", "revoke", "delete", "exchange"),
    "ingestion": ("track",),
}
ANY = "*"


@dataclass(kw_only=True)
class Fault:
    """One planted fault; `times` None lasts until it is cleared.

    It applies to calls of the operation whose path or body contains `about`, so that calls for different
    users can fail in different ways at the same time.

    - status: responds with `status` (and `Retry-After`, `WWW-Authenticate`) instead of doing the work
    - hang: never responds; reset: TCP reset; neither does the work
    - delay: waits `seconds`, then responds as usual
    - half: does the work, then sends full headers and half of the body
    - drip: sends headers, then one byte each `seconds` for ever; the work is not done
    - refuse: Entra ID's authorize (once an account is picked) or token responds with `code`, AADSTS…
    - fail-after-commit: does the work, then responds with `status`, resets or hangs, as `then` says
    """

    service: Service
    operation: str
    kind: Kind
    times: int | None = 1
    skip: int = 0
    status: int = 500
    retry_after: str | None = None
    authenticate: str | None = None
    seconds: float = 1.0
    body: object = None
    code: str | None = None
    then: AfterCommit = "status"
    about: str = ""
    cleared: threading.Event = field(default_factory=threading.Event, repr=False)

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "Fault":
        """Read a fault from a control request. Raises ValueError, which names the wrong member."""
        members = Members(document)
        service: Service = members.one_of("service", get_args(Service))
        picks = (document.get("operation"), document.get("kind")) == ("authorize", "refuse")
        return cls(
            service=service,
            operation=members.one_of("operation", (ANY, *OPERATIONS[service]), ANY),
            kind=members.one_of("kind", get_args(Kind)),
            times=members.optional_integer("times", 1),
            skip=members.integer("skip", 0),
            status=members.integer("status", 500),
            retry_after=members.optional_text("retryAfter"),
            authenticate=members.optional_text("authenticate"),
            seconds=members.number("seconds", 1.0),
            body=document.get("body"),
            code=members.optional_text("code"),
            then=members.one_of("then", get_args(AfterCommit), "status"),
            about=members.optional_text("about") or ("account=" if picks else ""),
        )

    def to_json(self) -> dict[str, object]:
        """Return the fault with its remaining `times`."""
        return {
            "service": self.service,
            "operation": self.operation,
            "kind": self.kind,
            "times": self.times,
            "skip": self.skip,
            "status": self.status,
            "retryAfter": self.retry_after,
            "authenticate": self.authenticate,
            "seconds": self.seconds,
            "body": self.body,
            "code": self.code,
            "then": self.then,
            "about": self.about,
        }

    def matches(self, service: str, operation: str, text: str) -> bool:
        """Tell whether the fault applies to a call of this operation that contains this text."""
        return self.service == service and self.operation in {operation, ANY} and self.about in text


class Faults:
    """The planted faults, in the order in which they apply."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._planted: list[Fault] = []
        self._all_cleared = threading.Event()

    def plant(self, fault: Fault) -> None:
        """Apply `fault` to the next matching calls."""
        with self._lock:
            fault.cleared = self._all_cleared
            self._planted.append(fault)

    def take(self, service: str, operation: str, text: str = "") -> Fault | None:
        """Return the fault that applies to this call, or None, and count it; `text` is path and body."""
        with self._lock:
            for fault in self._planted:
                if not fault.matches(service, operation, text):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    return None
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._planted.remove(fault)
                return fault
            return None

    def clear(self) -> None:
        """Remove all faults and end the calls that hang, drip or wait."""
        with self._lock:
            self._planted.clear()
            self._all_cleared.set()
            self._all_cleared = threading.Event()

    def to_json(self) -> list[dict[str, object]]:
        """Return the planted faults."""
        with self._lock:
            return [fault.to_json() for fault in self._planted]
