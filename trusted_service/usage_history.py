"""How much was done in the last 30 days, by all processes together."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time

from trusted_service.storage.usage import Counts, UsageTable
from trusted_service.usage import utc_now

DAYS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class UsagePicture:
    """What the storage held at `at`. Hours in which nothing was counted are not in `hours`."""

    at: datetime
    hours: Mapping[datetime, Counts]

    def days(self) -> list[date]:
        """The days that it shows, today last."""
        today = self.at.date()
        return [today - timedelta(days=back) for back in reversed(range(DAYS))]

    def by_day(self) -> dict[date, Counts]:
        counts = dict.fromkeys(self.days(), Counts())
        for hour, counted in self.hours.items():
            # A process whose clock is ahead may have written a day that is yet to come.
            if hour.date() in counts:
                counts[hour.date()] += counted
        return counts

    def by_hour(self, day: date) -> dict[datetime, Counts | None]:
        """The 24 hours of the day, by their beginning; None for those that had not begun."""
        midnight = datetime.combine(day, clock_time(), UTC)
        hours = [midnight + timedelta(hours=number) for number in range(24)]
        return {hour: self.hours.get(hour, Counts() if hour <= self.at else None) for hour in hours}


class UsageHistory:
    """Reads the table, at most once in FRESH_SECONDS unless several ask at the same moment."""

    FRESH_SECONDS = 60.0

    def __init__(self, table: UsageTable, now: Callable[[], datetime] = utc_now) -> None:
        self._table = table
        self._now = now
        self._latest: tuple[float, UsagePicture] | None = None

    def picture(self) -> UsagePicture:
        """At most FRESH_SECONDS old. Raises UpstreamError where it is older and the storage fails."""
        begin = time.monotonic()
        if self._latest is not None and begin - self._latest[0] < self.FRESH_SECONDS:
            return self._latest[1]
        at = self._now()
        picture = UsagePicture(
            at=at, hours=self._table.by_hour(at.date() - timedelta(days=DAYS - 1), at.date())
        )
        self._latest = begin, picture
        return picture
