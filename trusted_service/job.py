"""Jobs, which do one action to many users: plain frozen values, and how they count."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from trusted_service.models import Actor, UserId

Action = Literal["block", "delete"]
ACTIONS: tuple[Action, ...] = ("block", "delete")

JobState = Literal["checking", "draft", "running", "done", "cancelled"]
"""`checking` is the dry run, which changes nothing, and `draft` waits for somebody to start it."""

Finding = Literal["unchecked", "found", "blocked", "not-found", "yourself", "invalid", "twice"]
"""What the dry run says of a row. `blocked`: found, and blocked already; `yourself`: who made the job."""

ItemState = Literal["pending", "done", "failed", "not-found", "skipped"]
"""What became of a row. `not-found`: done, only there was nobody; `skipped`: not meant to be done."""

NOT_TO_DO: tuple[Finding, ...] = ("yourself", "invalid", "twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One row of a job, the one at `place`, counted from 0. `line` is where it stood in the file.

    `text` is what was given, where that is no id; `detail` says why it failed.
    """

    place: int
    line: int
    user_id: UserId | None
    text: str = ""
    finding: Finding = "unchecked"
    state: ItemState = "pending"
    detail: str = ""

    def found(self, finding: Finding) -> "Item":
        """The item after the dry run; what is not to be done is settled by it."""
        return replace(self, finding=finding, state="skipped" if finding in NOT_TO_DO else "pending")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as its header row says. `actor` is who answers for it: who made it, then who started it.

    `retries` is true while rows that failed before wait to be done again. `lease_owner` is the process
    that works on it until `lease_until`, unless that has passed; `write_id` names what that process
    wrote last, so that it knows its own write again where the answer was lost. `version` is the ETag.
    """

    id: str
    action: Action
    state: JobState
    actor: Actor
    created_at: datetime
    reason: str = ""
    ended_at: datetime | None = None
    retries: bool = False
    findings: Mapping[Finding, int] = field(default_factory=dict)
    states: Mapping[ItemState, int] = field(default_factory=dict)
    lease_owner: str = ""
    lease_until: datetime | None = None
    write_id: str = ""
    version: str = ""

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def to_do(self) -> int:
        """How many rows are, or would be, acted upon."""
        return self.total - sum(self.findings.get(finding, 0) for finding in NOT_TO_DO)

    @property
    def left(self) -> int:
        """How many rows are still to be checked or done."""
        return (
            self.findings.get("unchecked", 0) if self.state == "checking" else self.states.get("pending", 0)
        )

    @property
    def active(self) -> bool:
        """Whether there is work for a process to do."""
        return self.state in ("checking", "running")

    @property
    def startable(self) -> bool:
        """Whether somebody may start it: for the first time, or for the rows that failed."""
        return (self.state == "draft" and self.states.get("pending", 0) > 0) or (
            self.state == "done" and self.states.get("failed", 0) > 0
        )

    @property
    def cancellable(self) -> bool:
        return self.state in ("checking", "draft", "running")

    def counting(self, changes: Iterable[tuple[Item, Item]]) -> "Job":
        """The job after items changed, each given as it was and as it is."""
        findings, states = Counter(self.findings), Counter(self.states)
        for before, after in changes:
            findings[before.finding] -= 1
            findings[after.finding] += 1
            states[before.state] -= 1
            states[after.state] += 1
        return replace(self, findings=dict(+findings), states=dict(+states))


def count(items: Iterable[Item]) -> tuple[dict[Finding, int], dict[ItemState, int]]:
    """How many items there are of each finding, and of each state."""
    items = list(items)
    return dict(Counter(item.finding for item in items)), dict(Counter(item.state for item in items))
