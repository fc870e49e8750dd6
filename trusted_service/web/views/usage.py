"""The page that shows how much is done: 30 days, unless fewer are kept, or the hours of one of them."""

from datetime import timedelta

from flask import Blueprint, render_template, request

from trusted_service.errors import InvalidRequest
from trusted_service.usage import FLUSH_SECONDS, FRESH_SECONDS, Counts
from trusted_service.web.http.context import services
from trusted_service.web.security.audiences import administrator

bp = Blueprint("usage", __name__, url_prefix="/admin")


@bp.get("/usage")
@administrator
def usage() -> str:
    """The last 30 days, or the 24 hours of the one that `day` names. Raises InvalidRequest for others."""
    picture = services().usage.picture()
    days = {day.isoformat(): day for day in picture.days}
    name = request.args.get("day", "")
    if name and name not in days:
        raise InvalidRequest("day must be one of the last 30 days.")
    day = days.get(name)
    periods = picture.by_hour(day) if day else picture.by_day()
    return render_template(
        "admin/usage.html",
        at=picture.at,
        periods=periods,
        total=sum((counts for counts in periods.values() if counts), Counts()),
        scale_end=_scale_end,
        day=day,
        days=len(days),
        day_before=days.get(str(day - timedelta(days=1))) if day else None,
        day_after=days.get(str(day + timedelta(days=1))) if day else None,
        flush_seconds=round(FLUSH_SECONDS),
        fresh_seconds=round(FRESH_SECONDS),
    )


def _scale_end(value: int) -> int:
    """The next of 2, 4, 6, 8, 10, 20, 40, …: half of each is a whole number too."""
    power = int("1" + "0" * (len(str(max(value - 1, 0))) - 1))
    return next(step * power for step in (2, 4, 6, 8, 10) if value <= step * power)
