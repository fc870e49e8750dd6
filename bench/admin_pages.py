"""Measures the user list with few and with many users: `python -m bench.admin_pages --users 1000 50000`.

Storage calls and rows are per request, without the session read; processor time is the service's. With
--reindex, also measures `users reindex`.
"""

import argparse
import re
import resource
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.planted_storage import plant_storage
from tests.support.admin_client import Admin
from tests.support.commands import run_users
from tests.support.concurrency import timed
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.seed import make_users
from tests.support.settings import TENANT
from tests.support.storage_proxy import Call
from trusted_service.models import Identity

ROUNDS = 15
LONGEST = 7200.0
MAX_WHOLE = 50_000
BLOCKED = 0.05


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one request: storage calls, maximum rows requested, median and processor seconds."""

    calls: int
    rows: int
    seconds: float
    cpu: float


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.admin_pages", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[1000, 50_000], help="each number of users")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="requests of each kind (default: 15)")
    parser.add_argument("--reindex", action="store_true", help="also rebuild the index")
    arguments = parser.parse_args()
    console = Console(width=160)
    costs: list[dict[str, Cost]] = []
    for count in sorted(arguments.users):
        with tempfile.TemporaryDirectory() as folder:
            users = make_users(count, TENANT, str(uuid.uuid4()), blocked=BLOCKED)
            # Azurite cannot load all rows of very many users; then only the index by age is planted.
            plant_storage(Path(folder), users, whole=count <= MAX_WHOLE)
            with own_azure(data=Path(folder)) as own:
                console.print(f"{count} users", style="bold")
                admin = own.new_admin()
                middle, last, walked = _walk(admin, count)
                console.print(f"  all {count} of them once in {walked:.0f} s")
                costs.append(_measure(own, admin, users[0], middle, last, arguments.rounds))
                seconds, megabytes = _export(own, admin)
                console.print(f"  users.csv in {seconds:.1f} s, {megabytes:+.1f} MB of memory")
                if arguments.reindex and count <= MAX_WHOLE:
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    _, seconds = timed(lambda own=own: run_users(own.service.env, "reindex", seconds=LONGEST))  # type: ignore[misc]
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                    console.print(
                        f"  users reindex in {seconds:.0f} s, {cpu:.0f} s of its own processor time"
                    )
    console.print(_table(sorted(arguments.users), costs))


def _walk(admin: Admin, count: int) -> tuple[str, str, float]:
    """Return the cursors of the middle and the last page, and the seconds for all pages."""
    begin, seen, cursors = time.monotonic(), set[str](), [""]
    cursor: str | None = ""
    while cursor is not None:
        response = admin.person.get("/api/admin/users", params={"cursor": cursor})
        assert response.status_code == 200, response.text
        document = response.json()
        seen.update(user["objectId"] for user in document["users"])
        cursor = document["next"]
        cursors += [cursor] if cursor else []
    assert len(seen) == count, f"{len(seen)} users listed, not {count}"
    return cursors[len(cursors) // 2], cursors[-1], time.monotonic() - begin


def _measure(
    own: OwnAzure, admin: Admin, user: Identity, middle: str, last: str, rounds: int
) -> dict[str, Cost]:
    queries: dict[str, dict[str, str]] = {
        "newest, first page": {},
        "newest, middle page": {"cursor": middle},
        "newest, last page": {"cursor": last},
        "by name": {"sort": "name"},
        "blocked": {"status": "blocked"},
        "beginning of a name": {"q": user.name[:3]},
        "beginning of another word": {"q": user.name.split()[-1][:3]},
        "one user name": {"q": user.username},
        "object id": {"q": user.user_id.object_id},
        "ACS user id": {"q": user.acs_user_id or ""},
    }
    return {name: _cost(own, admin, query, rounds) for name, query in queries.items()}


def _cost(own: OwnAzure, admin: Admin, query: dict[str, str], rounds: int) -> Cost:
    path = "/admin/users" if "sort" in query else "/api/admin/users"
    seconds, before = [], _cpu(own)
    for _ in range(rounds):
        own.storage.clear()
        response, taken = timed(lambda: admin.person.get(path, params=query))
        assert response.status_code == 200
        seconds.append(taken)
    cpu = (_cpu(own) - before) / rounds
    calls = [call for call in own.storage.calls_for(response) if not call.table.startswith("sessions")]
    rows = sum(map(_rows, calls))
    return Cost(calls=len(calls), rows=rows, seconds=statistics.median(seconds), cpu=cpu)


def _rows(call: Call) -> int:
    top = re.search(r"top=(\d+)", call.text)
    return int(top[1]) if top else 1


def _cpu(own: OwnAzure) -> float:
    times = _worker(own).cpu_times()
    return times.user + times.system


def _worker(own: OwnAzure) -> psutil.Process:
    process = own.service.process
    assert process is not None
    (worker,) = psutil.Process(process.pid).children()
    return worker


def _export(own: OwnAzure, admin: Admin) -> tuple[float, float]:
    """Return the seconds for the CSV file, and the worker's peak memory growth in megabytes."""
    worker = _worker(own)
    before = peak = worker.memory_info().rss
    begin = time.monotonic()
    with admin.person.get("/admin/users.csv", stream=True) as response:
        for _ in response.iter_content(1 << 16):
            peak = max(peak, worker.memory_info().rss)
    return time.monotonic() - begin, (peak - before) / 1e6


def _table(counts: list[int], costs: list[dict[str, Cost]]) -> Table:
    table = Table(
        "Page", *(f"{count} users: calls / rows / CPU ms / p50 ms" for count in counts), "Ratio", box=None
    )
    for name in costs[0]:
        cells = [_cell(cost[name]) for cost in costs]
        table.add_row(name, *cells, f"{costs[-1][name].seconds / costs[0][name].seconds:.2f}")
    return table


def _cell(cost: Cost) -> str:
    return f"{cost.calls} / {cost.rows} / {cost.cpu * 1000:.1f} / {cost.seconds * 1000:.0f}"


if __name__ == "__main__":
    main()
