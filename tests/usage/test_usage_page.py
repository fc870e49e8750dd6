"""Usage page: the counts of 30 days, or of the hours of one day, for administrators only."""

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from bs4 import BeautifulSoup, Tag

from tests.support.pages import assert_error_page, read_page
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.usage import World
from trusted_service.usage import Counts

PATH = "/admin/usage"
Read = Callable[[str], BeautifulSoup]
NAMES = ("Tokens issued", "Sign-ins", "Refusals")


@pytest.fixture(scope="module")
def administrator(running_world: World) -> Person:
    """An administrator, whose sign-in another instance records before any test begins."""
    with Service(running_world.settings) as other:
        return running_world.new_user(other, roles=["TrustedService.Admin"])


@pytest.fixture
def reader(world: World, administrator: Person) -> Iterator[Person]:
    """The administrator at an instance that has not read the table yet."""
    with Service(world.settings | {"PUBLIC_URL": administrator.url}) as service:
        yield administrator.at(service.url)


@pytest.fixture
def read(reader: Person) -> Read:
    return functools.partial(read_page, reader)


def test_page_shows_counts_by_day(world: World, read: Read) -> None:
    today = datetime.now(UTC).date()
    world.put(f"{today}", 0, Counts(tokens=1200, sign_ins=30, refusals=1), process="a")
    world.put(f"{today}", 0, Counts(tokens=34, sign_ins=4), process="b")
    world.put(f"{today - timedelta(days=1)}", 23, Counts(tokens=617))
    world.put(f"{today - timedelta(days=29)}", 23, Counts(tokens=1))
    # Both of these are outside the 30 days.
    world.put(f"{today - timedelta(days=30)}", 23, Counts(tokens=10_000))
    world.put(f"{today + timedelta(days=1)}", 0, Counts(tokens=10_000))
    page = read(PATH)
    head, *days, total = read_table(page)
    assert head[1:] == list(NAMES)
    assert [day[1:] for day in days[:2]] == [["1,234", "34", "1"], ["617", "0", "0"]]
    assert [day[1:] for day in days[2:29]] == [["0", "0", "0"]] * 27
    assert [day[1:] for day in days[29:]] == [["1", "0", "0"]]
    assert total[1:] == ["1,852", "34", "1"]
    newest_first = [f"{PATH}?day={today - timedelta(days=back)}" for back in range(30)]
    assert [link["href"] for link in page.select("table a")] == newest_first
    tokens, sign_ins, refusals = page.select("svg")
    assert read_values(tokens) == ["1", "617", "1,234"]
    heights = [float(str(bar["height"])) for bar in tokens.select("rect")]
    assert heights[2] == pytest.approx(2 * heights[1], abs=0.2)
    assert read_values(sign_ins) == ["34"]
    assert read_values(refusals) == ["1"]
    for chart, name in zip((tokens, sign_ins, refusals), NAMES, strict=True):
        assert chart["role"] == "img"
        (title,) = chart.select(f"#{chart['aria-labelledby']}")
        assert title.text == f"{name} by day, in UTC"
        assert chart.select(f"#{chart['aria-describedby']}")
    assert "Total: 1,852." in tokens.text
    assert page.select("[style], style, main script") == []
    assert "UTC" in page.select_one("main p").text  # type: ignore[union-attr]
    assert "If it crashes, its last counts are lost" in page.text


def test_day_shows_its_hours(world: World, read: Read) -> None:
    day = datetime.now(UTC).date() - timedelta(days=3)
    world.put(f"{day}", 9, Counts(tokens=5, sign_ins=2), process="a")
    world.put(f"{day}", 9, Counts(tokens=6), process="b")
    world.put(f"{day}", 23, Counts(refusals=7))
    world.put(f"{day - timedelta(days=1)}", 9, Counts(tokens=100))
    page = read(f"{PATH}?day={day}")
    _, *hours, total = read_table(page)
    expected = {9: ["09:00", "11", "2", "0"], 23: ["23:00", "0", "0", "7"]}
    assert hours == [expected.get(hour, [f"{hour:02}:00", "0", "0", "0"]) for hour in range(24)]
    assert total[1:] == ["11", "2", "7"]
    assert [read_values(chart) for chart in page.select("svg")] == [["11"], ["2"], ["7"]]
    links = {str(link["href"]) for link in page.select("main nav a")}
    assert links == {PATH, f"{PATH}?day={day - timedelta(days=1)}", f"{PATH}?day={day + timedelta(days=1)}"}


def test_future_hours_show_no_zeros(world: World, read: Read) -> None:
    now = datetime.now(UTC)
    world.put(f"{now.date()}", now.hour, Counts(tokens=1))
    _, *hours, _ = read_table(read(f"{PATH}?day={now.date()}"))
    started = [numbers for _, *numbers in hours if numbers != ["\u2013"] * 3]
    assert len(started) in (now.hour + 1, now.hour + 2)  # the hour may end while this runs
    assert started[now.hour] == ["1", "0", "0"]


def test_page_costs_one_query_a_minute(world: World, read: Read) -> None:
    world.put(f"{datetime.now(UTC).date()}", 0, Counts(tokens=1))
    world.storage.clear()
    for _ in range(3):
        read(PATH)
        read(f"{PATH}?day={datetime.now(UTC).date()}")
    calls = [call for call in world.storage.calls(background=True) if call.table.startswith("usage")]
    assert [call.method for call in calls] == ["GET"]


def test_empty_page_reports_no_activity(world: World, read: Read) -> None:
    page = read(PATH)
    assert "There has been no activity in the last 30 days." in page.text
    assert page.select("svg, table") == []
    page = read(f"{PATH}?day={datetime.now(UTC).date()}")
    assert "There was no activity on this day." in page.text
    assert page.select_one(f'a[href="{PATH}"]')


def test_page_shows_only_days_that_are_kept(world: World, administrator: Person) -> None:
    today = datetime.now(UTC).date()
    for back in (6, 7, 10):
        world.put(f"{today - timedelta(days=back)}", 0, Counts(tokens=1))
    settings = {"PUBLIC_URL": administrator.url, "RETENTION_USAGE_DAYS": "7"}
    with Service(world.settings | settings) as service:
        page = read_page(administrator.at(service.url), PATH)
    assert "Usage in the last 7 days" in page.text
    _head, *days, total = read_table(page)
    assert (len(days), total[1]) == (7, "1")


def test_storage_outage_and_invalid_day_are_errors(world: World, reader: Person) -> None:
    world.storage.plant(Fault(kind="status", method="GET", table="usage"))
    assert_error_page(reader.get(PATH), 503)
    world.storage.clear()
    assert reader.get(PATH).status_code == 200
    today = datetime.now(UTC).date()
    days = ["yesterday", "2026-02-30", "<b>", f"{today - timedelta(days=32)}", f"{today + timedelta(days=2)}"]
    for day in days:
        page = assert_error_page(reader.get(PATH, params={"day": day}), 400)
        assert "day must be one of the last 30 days." in page.text


@pytest.mark.parametrize(
    ("highest", "levels"),
    [(1, ["2", "1"]), (3, ["4", "2"]), (10, ["10", "5"]), (11, ["20", "10"]), (81, ["100", "50"])],
)
def test_scale_ends_at_a_round_number(world: World, read: Read, highest: int, levels: list[str]) -> None:
    world.put(f"{datetime.now(UTC).date()}", 0, Counts(tokens=highest))
    tokens, sign_ins, _ = read(PATH).select("svg")
    assert [text.text for text in tokens.select("line:not(.base) + text")] == levels
    assert [text.text for text in sign_ins.select("line:not(.base) + text")] == ["2", "1"]


def read_table(page: BeautifulSoup) -> list[list[str]]:
    """Return the texts of the page's only table, row by row."""
    (table,) = page.select("table")
    return [[cell.text.strip() for cell in row.select("th, td")] for row in table.select("tr")]


def read_values(chart: Tag) -> list[str]:
    """Return the values in the titles of the bars, from left to right."""
    bars = sorted(chart.select("rect"), key=lambda bar: float(str(bar["x"]).rstrip("%")))
    return [bar.text.rpartition(": ")[2] for bar in bars]
