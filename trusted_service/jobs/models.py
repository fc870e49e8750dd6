"""Jobs, which apply one action to many users: frozen values, their counts, and how they change."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from trusted_service.access.administrators import Objection
from trusted_service.errors import InvalidRequest
from trusted_service.models import Actor, UserId
from trusted_service.texts import join_lines

JobAction = Literal["block", "delete"]
JOB_ACTIONS: tuple[JobAction, ...] = get_args(JobAction)

JobState = Literal["checking", "draft", "running", "done", "cancelled"]
"""`checking` is the dry run, which changes nothing; a `draft` waits for an administrator to start it."""

Finding = Literal["unchecked", "found", "blocked", "not-found"]
Exclusion = Literal["yourself", "invalid", "twice", "unknown", "ambiguous", "contradictory", "shifted"]
Check = Finding | Exclusion
"""Result of the dry run for a row. `blocked`: found, and blocked already; `yourself`: the job's author.

`unknown`, `ambiguous`: no user, or several, have this user name or ACS identity; `contradictory`: the row
names a second user; `shifted`: its cells may be in wrong columns.
"""

ItemState = Literal["pending", "done", "failed", "not-found", "skipped"]
"""Result of the action for a row. `not-found`: there was no such user; `skipped`: the check excluded it."""

MAX_DETAIL = 300
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a job, the `line` of its file or selection; `text` is the input where that is no user id."""

    line: int
    user_id: UserId | None
    text: str = ""
    check: Check = "unchecked"
    state: ItemState = "pending"
    detail: str = ""

    @property
    def cells(self) -> tuple[int, str, str, str, Check, ItemState, str]:
        return (self.line, *(self.user_id or ("", "")), self.text, self.check, self.state, self.detail)

    def checked(self, check: Check, detail: str = "") -> "Item":
        state: ItemState = "skipped" if check in get_args(Exclusion) else "pending"
        return replace(self, check=check, state=state, detail=detail)

    def acted_on(self, state: ItemState, detail: str = "") -> "Item":
        return replace(self, state=state, detail=join_lines(detail, MAX_DETAIL))


Page = tuple[int, Sequence[Item]]
"""Up to PAGE_SIZE rows, with the number of their page, counted from 0."""
ItemChange = tuple[Item, Item]
"""A row as it was, and as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The header row of a job. `actor` is the administrator who created it, then the one who started it.

    `retries` is true while it repeats the rows that failed. `lease_owner` may work on it until
    `lease_until`; `write_id` names the owner's last write: by it, the owner recognises a write
    whose response was lost. `objection` is why the service cancelled it. `version` is the ETag.
    """

    id: str
    action: JobAction
    state: JobState = "checking"
    actor: Actor
    created_at: datetime
    reason: str = ""
    ended_at: datetime | None = None
    retries: bool = False
    checks: Counter[Check]
    states: Counter[ItemState]
    objection: Objection = ""
    lease_owner: str = ""
    lease_until: datetime | None = None
    write_id: str = ""
    version: str = ""

    @property
    def page_count(self) -> int:
        return math.ceil(self.states.total() / PAGE_SIZE)

    @property
    def total(self) -> int:
        """The number of rows that the dry run and the action apply to."""
        return self.states.total() - self.states["skipped"]

    @property
    def left(self) -> int:
        """The number of rows still to be checked or done."""
        if self.state == "checking":
            return self.checks["unchecked"]
        return self.states["pending"] + (self.states["failed"] if self.retries else 0)

    @property
    def done(self) -> int:
        return self.total - self.left

    @property
    def active(self) -> bool:
        return self.state in ("checking", "running")

    @property
    def startable(self) -> bool:
        waiting = self.states["pending" if self.state == "draft" else "failed"]
        return self.state in ("draft", "done") and waiting > 0

    def has_to_do(self, item: Item) -> bool:
        """Whether the dry run, or else the action, has yet to be applied to the row."""
        if self.state == "checking":
            return item.check == "unchecked"
        return item.state == "pending" or (self.retries and item.state == "failed")

    def counted(self, changes: Sequence[ItemChange]) -> "Job":
        """The job after these rows changed."""
        checks = self.checks + Counter(after.check for _, after in changes)
        states = self.states + Counter(after.state for _, after in changes)
        checks -= Counter(before.check for before, _ in changes)
        states -= Counter(before.state for before, _ in changes)
        return replace(self, checks=checks, states=states)

    def started(self, actor: Actor, reason: str) -> "Job":
        """Raises InvalidRequest if there is nothing to start. A running job stays as it is."""
        if self.state == "running":
            return self
        if not self.startable:
            raise InvalidRequest("This job cannot be started.")
        started = replace(self, state="running", actor=actor, ended_at=None)
        return replace(started, retries=True) if self.state == "done" else replace(started, reason=reason)

    def cancelled(self, objection: Objection = "") -> "Job":
        """A job that has ended stays as it is."""
        if self.state in ("done", "cancelled"):
            return self
        return replace(self, state="cancelled", objection=objection, ended_at=datetime.now(UTC))

    def finished(self) -> "Job":
        """After the dry run or the action. A job that was cancelled meanwhile stays as it is."""
        if self.state == "checking":
            return replace(self, state="draft")
        return replace(self, state="done", retries=False, ended_at=datetime.now(UTC)) if self.active else self


Mention = tuple[Job, Item | None]
"""A job with a user's row in it, or None for the administrator who created or started it."""
