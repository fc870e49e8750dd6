"""What is left when everything works again: the promises of the contract's section 5, seen from outside."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.soak.scene import Member, Scene
from tests.soak.trouble import direct_settings
from tests.support.commands import repair
from tests.support.desk import bearer, call
from tests.support.ledger_rows import find_orphans
from tests.support.together import run_together

SETTLE_SECONDS = 45.0
SWEEP_SECONDS = 13.0
"""A block revokes once more when every request is over that may have been under way."""


@dataclass
class Verdict:
    """What was found. `orphans` are live identities that nothing refers to, each with its reason.

    `replaced` counts former identities that live on, as the ledger tells.
    """

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    orphans: dict[str, str] = field(default_factory=dict)
    repaired: Counter[str] = field(default_factory=Counter)
    late_tokens: int = 0
    replaced: int = 0


def reach(scene: Scene) -> Verdict:
    """Let everything work again, repair, and look. Broken promises go to the tally."""
    verdict = Verdict()
    scene.world.azure.clear_faults()
    scene.world.storage.clear()
    _settle(scene, verdict)
    settings = direct_settings(scene)
    verdict.repaired.update(finding["kind"] for finding in repair(settings))
    scene.world.storage.wait_until_quiet()
    for finding in repair(settings, dry_run=True):
        scene.tally.violate(f"repair leaves {finding['kind']} of {finding['user']}")
    _check_rows(scene, verdict)
    _check_cookies(scene)
    _check_blocks(scene, verdict)
    for member in scene.members:
        _check_member(scene, verdict, member)
    verdict.orphans = _orphans(scene)
    for identity, reason in verdict.orphans.items():
        if reason.startswith("UNEXPLAINED"):
            scene.tally.violate(f"orphan {identity}: {reason}")
    _check_logs(scene)
    return verdict


def _settle(scene: Scene, verdict: Verdict) -> None:
    """Wait for what the services do by themselves: second revocations, and identities made in vain."""
    time.sleep(SWEEP_SECONDS)
    ends = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < ends and any(
        reason.startswith("its deletion") for reason in _orphans(scene).values()
    ):
        time.sleep(1)


def _rows(scene: Scene) -> list[dict[str, Any]]:
    return [dict(row) for row in scene.world.tables.get_table_client("identities").list_entities()]


def _check_rows(scene: Scene, verdict: Verdict) -> None:
    rows, live = _rows(scene), set(scene.world.azure.list_identities())
    for key, count in Counter(row["PartitionKey"].lower() for row in rows).items():
        if count > 1:
            verdict.duplicates.append(f"{key} has {count} rows")
    for identity, count in Counter(row["AcsUserId"] for row in rows if row["AcsUserId"]).items():
        if count > 1:
            verdict.duplicates.append(f"{identity} belongs to {count} users")
    for row in rows:
        if row.get("Deleting") or row.get("Blocking"):
            scene.tally.violate(f"{row['PartitionKey']} is still being blocked or deleted")
    named = {row["PartitionKey"]: row["AcsUserId"] for row in rows}
    former = _former_identities(scene)
    for member in scene.members:
        mine = {grant.identity for grant in member.grants} & live
        verdict.replaced += len(mine & former.get(member.key, set()))
        if len(mine - former.get(member.key, set())) > 1:
            verdict.duplicates.append(f"{member.key} was given tokens for {len(mine)} identities that live")
        # What was given, and that nobody has deleted, is still theirs.
        kept = member.identity and not member.half_deleted and member.deleted_at < member.seen_at
        theirs = {named.get(member.person.account.object_id), *former.get(member.key, ())}
        if kept and member.identity not in theirs:
            verdict.lost.append(f"{member.key}: {member.identity}")


def _former_identities(scene: Scene) -> dict[str, set[str]]:
    """The identities that the ledger has of each user."""
    former: dict[str, set[str]] = {}
    for row in scene.world.tables.get_table_client("ledger").list_entities():
        if row["RowKey"] == "identity" and row["ObjectId"]:
            former.setdefault(f"{row['TenantId']}/{row['ObjectId']}", set()).add(str(row["AcsUserId"]))
    return former


def _check_cookies(scene: Scene) -> None:
    def look(member: Member) -> None:
        for cookies in member.ended_cookies:
            for service in scene.services:
                status = requests.get(f"{service.url}/api/me", cookies=cookies, timeout=30).status_code
                if status != 401:
                    scene.tally.violate(f"{member.key}: a session that had ended answers {status}")

    run_together([lambda member=member: look(member) for member in scene.members])  # type: ignore[misc]


def _check_blocks(scene: Scene, verdict: Verdict) -> None:
    """Tokens from before a block are revoked; one that was under way, too, unless its sweeper was killed."""
    for member in scene.members:
        began, blocked_at = member.block_began, member.blocked_at
        if began is None or blocked_at is None:
            continue
        killed = any(
            blocked_at - 1 < killed_at < blocked_at + SWEEP_SECONDS for killed_at in scene.kill_times
        )
        for grant in member.grants:
            if scene.world.azure.check_token(grant.token)["valid"]:
                if grant.ended > began and killed:
                    verdict.late_tokens += 1
                else:
                    scene.tally.violate(f"{member.key} is blocked and holds a good token")


def _check_member(scene: Scene, verdict: Verdict, member: Member) -> None:
    """Everybody gets a token for their one identity, or is blocked."""
    headers = bearer(scene.world.azure, member.person)
    answers = [call("POST", f"{service.url}/api/token", headers=headers) for service in scene.services]
    statuses = {answer.status_code for answer in answers}
    if statuses == {403}:
        if member.block_began is None:
            verdict.lost.append(f"{member.key} is blocked, and nobody did that")
    elif statuses != {200}:
        verdict.lost.append(f"{member.key} gets {statuses} when all is well")
    else:
        if member.blocked_at is not None:
            scene.tally.violate(f"{member.key} was blocked and gets a token")
        if len({answer.json()["user"]["communicationUserId"] for answer in answers}) > 1:
            verdict.duplicates.append(f"{member.key} has an identity at each service")
        for answer in answers:
            check = scene.world.azure.check_token(answer.json()["token"])
            if not check["valid"] or check["identity"] != answer.json()["user"]["communicationUserId"]:
                scene.tally.violate(f"{member.key} got a token that is not good, or not theirs")


def _orphans(scene: Scene) -> dict[str, str]:
    """Live identities that nothing refers to, with what the logs say about the request that made them."""
    nobodys = find_orphans(scene.world.azure, scene.world.tables)
    orphans = {
        identity: request_id
        for identity, request_id in scene.world.azure.list_origins().items()
        if identity in nobodys
    }
    if not orphans:
        return {}
    log = "\n".join(service.log() for service in scene.services)
    return {identity: _reason(identity, request_id, log) for identity, request_id in orphans.items()}


def _reason(identity: str, request_id: str, log: str) -> str:
    about = [json.loads(line) for line in log.splitlines() if identity in line or request_id in line]
    events = {event["event"] for event in about}
    if "identity_orphaned" in events:
        return "deletions failed again and again (identity_orphaned)"
    if "identity_discard_postponed" in events:
        return "its deletion failed and was postponed, and the process was killed before (…_postponed)"
    if "identity_unclaimed" in events:
        return "its row was perhaps written, and the process was killed before that was known (…_unclaimed)"
    if "identity_may_be_orphaned" in events:
        return "the answer to its create never came (identity_may_be_orphaned)"
    if not any(event["event"] == "request" and event.get("request_id") == request_id for event in about):
        return "the process was killed between its create and its row"
    return f"UNEXPLAINED: {sorted(events)} in request {request_id}"


def _check_logs(scene: Scene) -> None:
    secrets = {grant.token.split(".")[2] for member in scene.members for grant in member.grants}
    secrets |= {value for member in scene.members for jar in member.ended_cookies for value in jar.values()}
    for service in scene.services:
        text = Path(service.log_path).read_text(encoding="utf-8", errors="replace")
        if re.search(r"eyJ[A-Za-z0-9_-]{10}", text) or any(secret in text for secret in secrets if secret):
            scene.tally.violate("a secret stands in a log")
        if "Traceback" in text:
            scene.tally.violate(f"a traceback stands in {service.log_path}")
