"""Runs the soak and prints its result."""

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import click

from tests.soak.scene import Scene, set_up
from tests.soak.strangers import Attacker, Forger, Probe
from tests.soak.tally import HEALTH_SECONDS, Tally
from tests.soak.trouble import Administrator, Breaker, Killer
from tests.soak.users import User
from tests.soak.verdict import Verdict, reach

TROUBLES = (Administrator, Breaker, Killer, Attacker, Forger, Probe)
PROGRESS_SECONDS = 10.0
LAST_RESPONSE_SECONDS = 60.0


def main() -> int:
    """Return the exit status: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Runs the soak.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seed", default="1", help="of the users' choices; timing still varies")
    parser.add_argument("--health-seconds", type=float, default=HEALTH_SECONDS, help="the limit of /healthz")
    arguments = parser.parse_args()
    tally = Tally(health_limit=arguments.health_seconds)
    click.echo(f"soak: {arguments.users} users for {arguments.minutes:g} minutes, seed {arguments.seed}")
    with set_up(arguments.users, tally) as scene:
        _play(scene, arguments.minutes * 60, arguments.seed)
        click.echo("faults are over: wait for background tasks, repair, check")
        verdict = reach(scene)
    _print(tally, verdict)
    return 1 if tally.violations or verdict.lost or verdict.duplicates else 0


def _play(scene: Scene, seconds: float, seed: str) -> None:
    actors: list[Callable[[], None]] = [User(scene, member, seed).live for member in scene.members]
    actors += [trouble(scene, seed).work for trouble in TROUBLES]
    threads = [threading.Thread(target=_act, args=(scene, actor), daemon=True) for actor in actors]
    ends = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(PROGRESS_SECONDS, left))
        click.echo(scene.tally.progress())
    scene.stop.set()
    for thread in threads:
        thread.join(LAST_RESPONSE_SECONDS)
        if thread.is_alive():
            scene.tally.violate("a request that never ends")


def _act(scene: Scene, actor: Callable[[], None]) -> None:
    try:
        actor()
    except Exception as error:
        scene.tally.violate(f"the soak itself: {type(error).__name__}: {error}")


def _print(tally: Tally, verdict: Verdict) -> None:
    click.echo(f"requests   {tally.statuses.total()}  ({_list(tally.actions)})")
    click.echo(f"responses  {_list(tally.statuses)}")
    click.echo(f"faults     {tally.faults.total()}  ({_list(tally.faults)})")
    click.echo(f"attacks    {tally.attacks.total()}  ({_list(tally.attacks)})")
    click.echo(f"kills      {tally.kills}")
    click.echo(
        f"slowest    {tally.slowest[0]:.1f} s ({tally.slowest[1]}), /healthz {tally.slowest_probe:.1f} s"
    )
    click.echo(f"repair     {_list(verdict.repaired) or 'found nothing'}; then nothing more")
    click.echo(f"lost       = {len(verdict.lost)}")
    click.echo(f"duplicate identities = {len(verdict.duplicates)}")
    click.echo(f"replaced, and in the ledger = {verdict.replaced}")
    click.echo(f"orphans    = {len(verdict.orphans)}")
    for reason, count in Counter(verdict.orphans.values()).most_common():
        click.echo(f"             {count}: {reason}")
    click.echo(f"tokens issued during a block whose process was killed = {verdict.late_tokens}")
    click.echo(f"violations = {len(tally.violations)}")
    for problem in (*verdict.lost, *verdict.duplicates, *tally.violations):
        click.echo(f"             {problem}")


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
