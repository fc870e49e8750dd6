"""The usage page shows what the table says: 30 days, or the hours of one; to administrators alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from bs4 import BeautifulSoup, Tag

from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.usage import Numbers, World, open_world
from trusted_service.web.charts import BASE, PLOT, draw

PATH = "/admin/usage"
NAMES = ("Tokens issued", "Sign-ins", "Refusals")


@pytest.fixture(scope="module")
def running_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(running_world: World) -> Iterator[World]:
    """Where nothing has been counted yet."""
    running_world.tables.delete_table("usage")
    yield running_world
    running_world.storage.clear()


@dataclass(frozen=True, kw_only=True)
class People:
    administrator: Person
    user: Person


@pytest.fixture(scope="module")
def people(running_world: World) -> People:
    """Signed in at an instance that has ended, so that what it counted is written before any test begins."""
    with Service(running_world.settings) as door:
        administrator = running_world.new_person(door, roles=["TrustedService.Admin"])
        assert administrator.sign_in().status_code == 302
        return People(administrator=administrator, user=running_world.new_user(door))


@pytest.fixture
def reader(world: World, people: People) -> Iterator[Service]:
    """An instance that has not read the table before."""
    with Service(world.settings | {"PUBLIC_URL": people.administrator.url}) as service:
        yield service


@pytest.fixture
def read(people: People, reader: Service) -> Callable[[str], BeautifulSoup]:
    """Read a page as an administrator."""

    def get(path: str) -> BeautifulSoup:
        answer = people.administrator.at(reader.url).get(path)
        assert answer.status_code == 200, answer.text
        return BeautifulSoup(answer.text, "html.parser")

    return get


def test_days_show_what_the_table_says(world: World, read: Callable[[str], BeautifulSoup]) -> None:
    today = datetime.now(UTC).date()
    world.put(f"{today}", 0, Numbers(tokens=1200, sign_ins=30, refusals=1), process="a")
    world.put(f"{today}", 0, Numbers(tokens=34, sign_ins=4), process="b")
    world.put(f"{today - timedelta(days=1)}", 23, Numbers(tokens=617))
    world.put(f"{today - timedelta(days=29)}", 23, Numbers(tokens=1))
    # Neither of these is one of the 30 days.
    world.put(f"{today - timedelta(days=30)}", 23, Numbers(tokens=10_000))
    world.put(f"{today + timedelta(days=1)}", 0, Numbers(tokens=10_000))
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


def test_day_shows_its_hours(world: World, read: Callable[[str], BeautifulSoup]) -> None:
    day = datetime.now(UTC).date() - timedelta(days=3)
    world.put(f"{day}", 9, Numbers(tokens=5, sign_ins=2), process="a")
    world.put(f"{day}", 9, Numbers(tokens=6), process="b")
    world.put(f"{day}", 23, Numbers(refusals=7))
    world.put(f"{day - timedelta(days=1)}", 9, Numbers(tokens=100))
    page = read(f"{PATH}?day={day}")
    _, *hours, total = read_table(page)
    expected = {9: ["09:00", "11", "2", "0"], 23: ["23:00", "0", "0", "7"]}
    assert hours == [expected.get(hour, [f"{hour:02}:00", "0", "0", "0"]) for hour in range(24)]
    assert total[1:] == ["11", "2", "7"]
    assert [read_values(chart) for chart in page.select("svg")] == [["11"], ["2"], ["7"]]
    links = {str(link["href"]) for link in page.select("main nav a")}
    assert links == {PATH, f"{PATH}?day={day - timedelta(days=1)}", f"{PATH}?day={day + timedelta(days=1)}"}


def test_hours_to_come_are_no_zeros(world: World, read: Callable[[str], BeautifulSoup]) -> None:
    now = datetime.now(UTC)
    world.put(f"{now.date()}", now.hour, Numbers(tokens=1))
    _, *hours, _ = read_table(read(f"{PATH}?day={now.date()}"))
    begun = [numbers for _, *numbers in hours if numbers != ["\u2013"] * 3]
    assert len(begun) in (now.hour + 1, now.hour + 2)  # the hour may end while this runs
    assert begun[now.hour] == ["1", "0", "0"]


def test_charts_are_said_in_words_and_need_no_inline_style(
    world: World, read: Callable[[str], BeautifulSoup]
) -> None:
    world.put(f"{datetime.now(UTC).date()}", 0, Numbers(tokens=1234))
    page = read(PATH)
    charts = page.select("svg")
    for chart, name in zip(charts, NAMES, strict=True):
        assert chart["role"] == "img"
        title, description = (
            chart.find(id=str(chart[names])) for names in ("aria-labelledby", "aria-describedby")
        )
        assert isinstance(title, Tag)
        assert title.text == f"{name} by day, in UTC"
        assert isinstance(description, Tag)
    assert "1,234 in all." in charts[0].text
    assert page.select("[style], style, main script") == []
    assert "UTC" in page.select_one("main p").text  # type: ignore[union-attr]
    assert "should it crash, the last seconds are lost" in page.text


def test_page_costs_one_query_a_minute(world: World, read: Callable[[str], BeautifulSoup]) -> None:
    world.put(f"{datetime.now(UTC).date()}", 0, Numbers(tokens=1))
    world.storage.clear()
    for _ in range(3):
        read(PATH)
        read(f"{PATH}?day={datetime.now(UTC).date()}")
    assert [
        call.method for call in world.storage.calls(background=True) if call.table.startswith("usage")
    ] == ["GET"]


def test_page_says_so_where_nothing_was_counted(world: World, read: Callable[[str], BeautifulSoup]) -> None:
    page = read(PATH)
    assert "Nothing has been counted in the last 30 days." in page.text
    assert page.select("svg, table") == []
    page = read(f"{PATH}?day={datetime.now(UTC).date()}")
    assert "Nothing was counted on this day." in page.text
    assert page.select_one(f'a[href="{PATH}"]')


def test_page_is_for_administrators_alone(people: People, reader: Service) -> None:
    assert_error_page(people.user.at(reader.url).get(PATH), 403)
    stranger = Person(people.user.azure, reader.url, people.user.account)
    answer = stranger.get(PATH)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/auth/sign-in?next={PATH}"


def test_day_that_is_none_of_the_thirty_is_refused(people: People, reader: Service) -> None:
    today = datetime.now(UTC).date()
    days = ["yesterday", "2026-02-30", "<b>", f"{today - timedelta(days=32)}", f"{today + timedelta(days=2)}"]
    for day in days:
        page = assert_error_page(people.administrator.at(reader.url).get(PATH, params={"day": day}), 400)
        assert "day must be from" in page.text


def test_page_needs_the_storage(world: World, people: People, reader: Service) -> None:
    world.storage.plant(Fault(kind="status", method="GET", table="usage"))
    assert_error_page(people.administrator.at(reader.url).get(PATH), 503)
    world.storage.clear()
    assert people.administrator.at(reader.url).get(PATH).status_code == 200


@pytest.mark.parametrize(
    ("highest", "levels"),
    [(0, [2, 1]), (1, [2, 1]), (3, [4, 2]), (10, [10, 5]), (11, [20, 10]), (80, [80, 40]), (81, [100, 50])],
)
def test_scale_ends_at_a_round_number(highest: int, levels: list[int]) -> None:
    chart = draw(["a", "b"], [0, highest], {})
    assert [line.value for line in chart.lines] == levels
    assert chart.lines[0].y == BASE - PLOT
    assert [bar.value for bar in chart.bars] == [highest] * bool(highest)


def read_table(page: BeautifulSoup) -> list[list[str]]:
    """The texts of the page's only table, row by row."""
    (table,) = page.select("table")
    return [[cell.text.strip() for cell in row.select("th, td")] for row in table.select("tr")]


def read_values(chart: Tag) -> list[str]:
    """What the bars say that they stand for, from left to right."""
    bars = sorted(chart.select("rect"), key=lambda bar: float(str(bar["x"]).rstrip("%")))
    return [bar.text.rpartition(": ")[2] for bar in bars]
