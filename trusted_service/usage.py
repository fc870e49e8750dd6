"""Counts what is done: tokens, sign-ins and refusals, by hour.

A background task writes the counts to the storage. A crash loses the last FLUSH_SECONDS, an outage nothing.
A row of the table `usage` is what one process has counted since an hour began, so writing it again changes
nothing: its partition is the day in UTC (`2026-11-23`), its key the hour and the process (`07-…`).
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

import structlog

from trusted_service.azure import deadlines
from trusted_service.errors import UpstreamError
from trusted_service.storage.tables import Table

log = structlog.get_logger(__name__)

FLUSH_SECONDS, FLUSH_BUDGET_SECONDS = 5.0, 4.0
FRESH_SECONDS = 60.0
DAYS = 30


@dataclass(frozen=True, slots=True)
class Counts:
    """How often something happened. `refusals` are 401, 403 and 429 from the API or the sign-in."""

    tokens: int = 0
    sign_ins: int = 0
    refusals: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


TOKEN, SIGN_IN, REFUSAL = Counts(tokens=1), Counts(sign_ins=1), Counts(refusals=1)


@dataclass(frozen=True, slots=True)
class UsagePicture:
    """What the storage held at `at` about these days, today last. Hours without counts are not in `hours`."""

    at: datetime
    days: Sequence[date]
    hours: Mapping[datetime, Counts]

    def by_day(self) -> Mapping[date, Counts | None]:
        counts = dict.fromkeys(self.days, Counts())
        for hour, counted in self.hours.items():
            # A process whose clock is ahead may have written a day that is yet to come.
            if hour.date() in counts:
                counts[hour.date()] += counted
        return counts

    def by_hour(self, day: date) -> Mapping[datetime, Counts | None]:
        """The 24 hours of the day, by their beginning; None for those that had not begun."""
        hours = [datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for hour in range(24)]
        return {hour: self.hours.get(hour, Counts() if hour <= self.at else None) for hour in hours}


@dataclass(frozen=True, slots=True)
class UsageTable:
    """Methods raise UpstreamError if the storage fails."""

    table: Table

    def put(self, process: str, hour: datetime, counts: Counts) -> None:
        """Write what the process has counted in the hour that begins at `hour`, in UTC."""
        values = {"Tokens": counts.tokens, "SignIns": counts.sign_ins, "Refusals": counts.refusals}
        self.table.put({"PartitionKey": f"{hour:%Y-%m-%d}", "RowKey": f"{hour:%H}-{process}"} | values)

    def purge(self, before: datetime) -> Iterator[int]:
        """Delete the days that were over before this time, a transaction at each step."""
        return self.table.purge("PartitionKey lt @day", {"day": f"{before:%Y-%m-%d}"})

    def read_hours(self, first: date, last: date) -> dict[datetime, Counts]:
        """What all processes counted in these days, by the beginning of the hour, without empty hours."""
        hours: dict[datetime, Counts] = {}
        days = {"first": first.isoformat(), "last": last.isoformat()}
        condition = "PartitionKey ge @first and PartitionKey le @last"
        for row in self.table.query(condition, days, columns=("Tokens", "SignIns", "Refusals")):
            hour = datetime.strptime(f"{row['PartitionKey']}T{row['RowKey'][:2]}+0000", "%Y-%m-%dT%H%z")
            counts = Counts(tokens=row["Tokens"], sign_ins=row["SignIns"], refusals=row["Refusals"])
            hours[hour] = hours.get(hour, Counts()) + counts
        return hours


class UsageCounter:
    """Counts for this process, whose counts of an hour are one row; reads what all processes counted."""

    def __init__(
        self, table: UsageTable, now: Callable[[tzinfo], datetime] = datetime.now, *, days: int = DAYS
    ) -> None:
        self._table = table
        self._days = min(days, DAYS)
        self._now = now
        # Of each hour since the process began: they are absolute, and a clock can be set back.
        self._counts: dict[datetime, Counts] = {}
        self._written: dict[datetime, Counts] = {}
        self._counting = threading.Lock()
        # Held while writing: an older count must not arrive after a newer one.
        self._writing = threading.Lock()
        self._process = ""
        self._latest: tuple[float, UsagePicture] | None = None

    def count(self, what: Counts) -> None:
        """Add to the counts of this hour. Never fails, and never waits for the storage."""
        hour = self._now(UTC).replace(minute=0, second=0, microsecond=0)
        with self._counting:
            self._counts[hour] = self._counts.get(hour, Counts()) + what

    def flush(self) -> None:
        """Write the hours that have changed. A failure is logged; the next flush writes the rest."""
        with self._writing, deadlines.request_budget(uuid.uuid4().hex, FLUSH_BUDGET_SECONDS):
            # Not in __init__: after a fork, two processes must not share a name.
            self._process = self._process or uuid.uuid4().hex[:16]
            try:
                for hour, counts in self._unwritten().items():
                    self._table.put(self._process, hour, counts)
                    self._written[hour] = counts
            except UpstreamError as error:
                log.warning("usage_not_written", reason=str(error))

    def close(self) -> None:
        """Write the rest, as the process ends. Counts that cannot be written are only logged."""
        self.flush()
        if lost := {f"{hour:%Y-%m-%dT%H}": str(counts) for hour, counts in self._unwritten().items()}:
            log.error("usage_lost", counts=lost)

    def picture(self) -> UsagePicture:
        """At most FRESH_SECONDS old. Raises UpstreamError if it is older and the storage fails."""
        begin = time.monotonic()
        if self._latest is not None and begin - self._latest[0] < FRESH_SECONDS:
            return self._latest[1]
        at = self._now(UTC)
        days = [at.date() - timedelta(days=back) for back in reversed(range(self._days))]
        picture = UsagePicture(at, days, self._table.read_hours(days[0], days[-1]))
        self._latest = begin, picture
        return picture

    def _unwritten(self) -> dict[datetime, Counts]:
        with self._counting:
            return dict(self._counts.items() - self._written.items())
