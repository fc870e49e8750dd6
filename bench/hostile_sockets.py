"""Measures two workers while hostile sockets attack them: `python -m bench.hostile_sockets`."""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import requests
from rich.console import Console
from rich.table import Table

from tests.support.concurrency import timed
from tests.support.hostile_sockets import KINDS, attack
from tests.support.own_azure import own_azure

LIMIT_SECONDS = 2.0


def main() -> None:
    """Attack with each kind alone, then with all; print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile_sockets", description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack (default: 20)")
    parser.add_argument("--kinds", nargs="+", default=["nothing", *KINDS, "all"])
    arguments = parser.parse_args()
    console, latency = Console(width=140), "p50 / p99 / max s"
    table = Table("Attack", "requests", "errors", f"/healthz {latency}", f"token {latency}", box=None)
    with own_azure(workers=2) as own:
        person = own.new_user()
        csrf = person.csrf_headers()
        actions: list[Callable[[], requests.Response]] = [
            partial(requests.get, f"{own.service.url}/healthz", timeout=60),
            partial(person.token, csrf=csrf),
        ]
        for name in arguments.kinds:
            kinds = {"nothing": [], "all": [*KINDS]}.get(name, [name])
            with contextlib.ExitStack() as attacks:
                if kinds:
                    attacks.enter_context(
                        attack(own.service.port, *kinds, count=arguments.sockets // len(kinds))
                    )
                with ThreadPoolExecutor(len(actions)) as pool:
                    health, tokens = pool.map(partial(_repeat, seconds=arguments.seconds), actions)
            errors = sum(seconds < 0 for seconds in health + tokens)
            table.add_row(name, str(len(health + tokens)), str(errors), _figures(health), _figures(tokens))
            console.print(name)
    console.print(table)


def _repeat(action: Callable[[], requests.Response], seconds: float) -> list[float]:
    """Return the seconds of each request; negative if it failed."""
    ends, taken = time.monotonic() + seconds, []
    while time.monotonic() < ends:
        try:
            response, each = timed(action)
            taken.append(each if response.status_code == 200 else -each)
        except requests.RequestException:
            taken.append(-0.001)
        time.sleep(0.02)
    return taken


def _figures(seconds: list[float]) -> str:
    taken = sorted(map(abs, seconds))
    p99 = taken[int(len(taken) * 0.99)]
    late = " LATE" if taken[-1] > LIMIT_SECONDS else ""
    return f"{statistics.median(taken):.3f} / {p99:.3f} / {taken[-1]:.3f}{late}"


if __name__ == "__main__":
    main()
