"""The table `usage`: how much was done in each hour, counted by each process for itself.

A row belongs to one process and one hour: its partition is the day in UTC (`2026-11-23`), its key
the hour and the process (`07-…`). It holds the counts since the hour began, never what to add to
them, so writing it again changes nothing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from trusted_service.storage.tables import Row, Table

COLUMNS = ("Tokens", "SignIns", "Refusals")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How often each thing happened.

    `refusals` are answers with 401, 403 or 429 by the API or the sign-in.
    """

    tokens: int = 0
    sign_ins: int = 0
    refusals: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            tokens=self.tokens + other.tokens,
            sign_ins=self.sign_ins + other.sign_ins,
            refusals=self.refusals + other.refusals,
        )


class UsageTable:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, process: str, hour: datetime, counts: Counts) -> None:
        """Write what the process has counted in the hour that begins at `hour`, in UTC."""
        self._table.put(
            {
                "PartitionKey": hour.date().isoformat(),
                "RowKey": f"{hour:%H}-{process}",
                "Tokens": counts.tokens,
                "SignIns": counts.sign_ins,
                "Refusals": counts.refusals,
            }
        )

    def by_hour(self, first: date, last: date) -> dict[datetime, Counts]:
        """What all processes counted from the first day to the last, by the beginning of the hour in UTC.

        Hours in which nothing was counted are left out.
        """
        hours: dict[datetime, Counts] = {}
        for row in self._table.partitions(first.isoformat(), last.isoformat(), COLUMNS):
            hour = _hour(row)
            hours[hour] = hours.get(hour, Counts()) + _counts(row)
        return hours


def _hour(row: Row) -> datetime:
    hour = int(str(row["RowKey"]).partition("-")[0])
    return datetime.combine(date.fromisoformat(row["PartitionKey"]), time(hour), UTC)


def _counts(row: Row) -> Counts:
    return Counts(tokens=row["Tokens"], sign_ins=row["SignIns"], refusals=row["Refusals"])
