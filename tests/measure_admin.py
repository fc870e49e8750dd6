"""What a page of users costs, with few and with many: `python -m tests.measure_admin --users 1000 50000`.

Users are planted as another program would plant them, so the time until the index has taken them in is
measured too. Calls and rows are what reaches the storage for one request.
"""

import argparse
import re
import statistics
import time
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from tests.seed import seed_users
from tests.support.desk import Desk
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.storage_proxy import Call
from tests.support.together import timed, wait_until
from trusted_service.models import Identity

ROUNDS = 15
LONGEST_BUILD = 3600.0
BLOCKED = 0.05


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one request: calls to the storage, rows that they ask for at most, median seconds."""

    calls: int
    rows: int
    seconds: float


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure_admin", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[1000, 50_000], help="each number of users")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="requests of each kind (default: 15)")
    arguments = parser.parse_args()
    console = Console(width=160)
    costs: list[dict[str, Cost]] = []
    with own_azure() as own:
        clerk, planted = own.new_desk(), 0
        for count in sorted(arguments.users):
            begin = time.monotonic()
            users = seed_users(own.azure.env, count - planted, blocked=BLOCKED)
            seconds = time.monotonic() - begin
            planted = count
            console.print(f"{count} users, planted in {seconds:.0f} s", style="bold")
            built, scanned = _build(own, clerk, users[-1])
            console.print(
                f"  index built in {built:.1f} s; until then, the slowest of the lists {scanned:.1f} s"
            )
            middle, last, walked = _walk(clerk, count)
            console.print(f"  all {count} of them once in {walked:.0f} s")
            costs.append(_measure(own, clerk, users[0], middle, last, arguments.rounds))
            seconds, megabytes = _export(own, clerk)
            console.print(f"  users.csv in {seconds:.1f} s, {megabytes:+.1f} MB of memory")
    console.print(_table(sorted(arguments.users), costs))


def _build(own: OwnAzure, clerk: Desk, user: Identity) -> tuple[float, float]:
    """Seconds until lists come from the index, and what the slowest list took until then."""
    scanned = [0.0]

    def is_built() -> bool:
        own.storage.clear()
        answer, seconds = timed(lambda: clerk.person.get("/api/admin/users", timeout=60))
        scanned.append(seconds)
        calls = own.storage.calls_for(answer)
        if answer.status_code != 200 or any(_is_scan(call) for call in calls):
            return False
        found = clerk.person.get("/api/admin/users", params={"q": user.username}).json()["users"]
        return [one["objectId"] for one in found] == [user.user_id.object_id]

    begin = time.monotonic()
    wait_until(is_built, LONGEST_BUILD)
    return time.monotonic() - begin, max(scanned)


def _is_scan(call: Call) -> bool:
    return call.table.startswith("identities") and "Timestamp" in call.text


def _walk(clerk: Desk, count: int) -> tuple[str, str, float]:
    """The cursors of the page in the middle and of the last one, and the seconds for all pages."""
    begin, seen, cursors = time.monotonic(), set[str](), [""]
    cursor: str | None = ""
    while cursor is not None:
        answer = clerk.person.get("/api/admin/users", params={"cursor": cursor})
        assert answer.status_code == 200, answer.text
        document = answer.json()
        seen.update(user["objectId"] for user in document["users"])
        cursor = document["next"]
        cursors += [cursor] if cursor else []
    assert len(seen) == count, f"{len(seen)} users listed, not {count}"
    return cursors[len(cursors) // 2], cursors[-1], time.monotonic() - begin


def _measure(
    own: OwnAzure, clerk: Desk, user: Identity, middle: str, last: str, rounds: int
) -> dict[str, Cost]:
    queries: dict[str, dict[str, str]] = {
        "newest, first page": {},
        "newest, middle page": {"cursor": middle},
        "newest, last page": {"cursor": last},
        "by name": {"sort": "name"},
        "blocked": {"status": "blocked"},
        "beginning of a name": {"q": user.name[:3]},
        "one user name": {"q": user.username},
        "object id": {"q": user.user_id.object_id},
        "ACS user id": {"q": user.acs_user_id or ""},
    }
    return {name: _cost(own, clerk, query, rounds) for name, query in queries.items()}


def _cost(own: OwnAzure, clerk: Desk, query: dict[str, str], rounds: int) -> Cost:
    path = "/admin/users" if "sort" in query else "/api/admin/users"
    seconds = []
    for _ in range(rounds):
        own.storage.clear()
        answer, taken = timed(lambda: clerk.person.get(path, params=query))
        assert answer.status_code == 200
        seconds.append(taken)
    calls = own.storage.calls()
    return Cost(calls=len(calls), rows=sum(map(_rows, calls)), seconds=statistics.median(seconds))


def _rows(call: Call) -> int:
    if "upkeep" in call.text:
        return 0  # a look for what is left to do, which mostly finds nothing
    top = re.search(r"top=(\d+)", call.text)
    return int(top[1]) if top else 1


def _export(own: OwnAzure, clerk: Desk) -> tuple[float, float]:
    """Seconds for the CSV file, and by how many megabytes the worker grew at most."""
    process = own.service.process
    assert process is not None
    (worker,) = psutil.Process(process.pid).children()
    before = most = worker.memory_info().rss
    begin = time.monotonic()
    with clerk.person.get("/admin/users.csv", stream=True) as answer:
        for _ in answer.iter_content(1 << 16):
            most = max(most, worker.memory_info().rss)
    return time.monotonic() - begin, (most - before) / 1e6


def _table(counts: list[int], costs: list[dict[str, Cost]]) -> Table:
    table = Table("Page", *(f"{count} users: calls / rows / p50 ms" for count in counts), "Ratio", box=None)
    for name in costs[0]:
        cells = [
            f"{cost[name].calls} / {cost[name].rows} / {cost[name].seconds * 1000:.0f}" for cost in costs
        ]
        table.add_row(name, *cells, f"{costs[-1][name].seconds / costs[0][name].seconds:.2f}")
    return table


if __name__ == "__main__":
    main()
