"""The page that shows how much is done: 30 days, or the hours of one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from flask import Blueprint, render_template, request

from trusted_service.errors import InvalidRequest
from trusted_service.storage.usage import Counts
from trusted_service.usage import FLUSH_SECONDS
from trusted_service.usage_history import DAYS, UsageHistory, UsagePicture
from trusted_service.web.audience import administrator
from trusted_service.web.charts import Chart, draw
from trusted_service.web.context import services
from trusted_service.web.language import short_day, weekday

bp = Blueprint("usage", __name__, url_prefix="/admin")

MEASURES = ("tokens", "sign_ins", "refusals")


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A day, or an hour of one. `counts` is None for what is yet to come; `day` leads to its hours."""

    label: str
    counts: Counts | None
    day: date | None = None


@bp.get("/usage")
@administrator
def usage() -> str:
    """The last 30 days, or the 24 hours of the one that `day` names."""
    picture = services().usage_history.picture()
    day = _chosen_day(picture)
    if day is None:
        periods, charts = _days(picture.by_day())
    else:
        periods, charts = _hours(picture.by_hour(day))
    days = picture.days()
    return render_template(
        "admin/usage.html",
        at=picture.at,
        # The newest day stands first in the table, as in every list here; hours go as the clock does.
        periods=periods[::-1] if day is None else periods,
        charts=charts,
        total=sum((period.counts for period in periods if period.counts), Counts()),
        first=days[0],
        last=days[-1],
        day=day,
        day_before=day - timedelta(days=1) if day and day > days[0] else None,
        day_after=day + timedelta(days=1) if day and day < days[-1] else None,
        flush_seconds=round(FLUSH_SECONDS),
        fresh_seconds=round(UsageHistory.FRESH_SECONDS),
    )


def _days(counts: Mapping[date, Counts]) -> tuple[list[Period], dict[str, Chart]]:
    periods = [Period(label=weekday(day), counts=counted, day=day) for day, counted in counts.items()]
    weekly = {
        number: short_day(day)
        for number, day in enumerate(counts)
        if number > 7 and number % 7 == (DAYS - 1) % 7
    }
    return periods, _charts(periods, weekly)


def _hours(counts: Mapping[datetime, Counts | None]) -> tuple[list[Period], dict[str, Chart]]:
    periods = [Period(label=f"{hour:%H:%M}", counts=counted) for hour, counted in counts.items()]
    return periods, _charts(periods, {number: periods[number].label for number in (0, 6, 12, 18)})


def _charts(periods: Sequence[Period], ticks: Mapping[int, str]) -> dict[str, Chart]:
    labels = [period.label for period in periods]
    return {
        name: draw(labels, [getattr(period.counts or Counts(), name) for period in periods], ticks)
        for name in MEASURES
    }


def _chosen_day(picture: UsagePicture) -> date | None:
    """Raises InvalidRequest for what is not one of the days that the picture shows."""
    text = request.args.get("day", "")
    days = {day.isoformat(): day for day in picture.days()}
    if text and text not in days:
        raise InvalidRequest(f"day must be from {min(days)} to {max(days)}.")
    return days.get(text)
