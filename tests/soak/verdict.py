"""Checks the promises of the contract's section 5 from outside, after the faults are over."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import requests

from tests.soak.scene import Member, Scene
from tests.soak.trouble import direct_settings
from tests.support.admin_client import bearer, call
from tests.support.commands import repair
from tests.support.concurrency import run_concurrently
from tests.support.rows import find_orphans

SETTLE_SECONDS = 45.0
SWEEP_SECONDS = 13.0
"""A block revokes tokens again after every request that it could race has ended."""


@dataclass
class Verdict:
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    orphans: dict[str, str] = field(default_factory=dict)  # live identities without a user, with the reason
    repaired: Counter[str] = field(default_factory=Counter)
    late_tokens: int = 0
    replaced: int = 0  # former identities that the ledger has and that still live


def reach(scene: Scene) -> Verdict:
    """Remove all faults, repair, and check. Broken promises go to the tally."""
    verdict = Verdict()
    scene.world.azure.clear_faults()
    scene.world.storage.clear()
    _settle(scene)
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


def _settle(scene: Scene) -> None:
    """Wait for background tasks: second revocations, and the clean-up of unused identities."""
    time.sleep(SWEEP_SECONDS)
    ends = time.monotonic() + SETTLE_SECONDS
    while (
        any(text.startswith("its deletion") for text in _orphans(scene).values()) and time.monotonic() < ends
    ):
        time.sleep(1)


def _check_rows(scene: Scene, verdict: Verdict) -> None:
    rows = list(scene.world.tables.get_table_client("identities").list_entities())
    live = set(scene.world.azure.list_identities())
    keys = Counter(row["PartitionKey"].lower() for row in rows)
    identities = Counter(row["AcsUserId"] for row in rows if row["AcsUserId"])
    verdict.duplicates += [f"{key} has {count} rows" for key, count in keys.items() if count > 1]
    verdict.duplicates += [
        f"{name} belongs to {count} users" for name, count in identities.items() if count > 1
    ]
    for row in rows:
        if row.get("Deleting") or row.get("Blocking"):
            scene.tally.violate(f"{row['PartitionKey']} is still being blocked or deleted")
    named = {row["PartitionKey"]: row["AcsUserId"] for row in rows}
    former = _former_identities(scene)
    for member in scene.members:
        mine = {grant.identity for grant in member.grants} & live
        verdict.replaced += len(mine & former.get(member.key, set()))
        if len(mine - former.get(member.key, set())) > 1:
            verdict.duplicates.append(f"{member.key} got tokens for {len(mine)} identities that live")
        # An identity that was issued and not deleted is still the user's.
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
    def check(member: Member) -> None:
        for cookies in member.ended_cookies:
            for service in scene.services:
                status = requests.get(f"{service.url}/api/me", cookies=cookies, timeout=30).status_code
                if status != 401:
                    scene.tally.violate(f"{member.key}: an ended session gets {status}")

    run_concurrently([lambda member=member: check(member) for member in scene.members])  # type: ignore[misc]


def _check_blocks(scene: Scene, verdict: Verdict) -> None:
    """Check that a block revoked earlier tokens, and concurrent ones unless its sweep was killed."""
    for member in scene.members:
        began, blocked_at = member.block_began, member.blocked_at
        if began is None or blocked_at is None:
            continue
        killed = any(blocked_at - 1 < at < blocked_at + SWEEP_SECONDS for at in scene.kill_times)
        for grant in member.grants:
            if scene.world.azure.check_token(grant.token)["valid"]:
                if grant.ended > began and killed:
                    verdict.late_tokens += 1
                else:
                    scene.tally.violate(f"{member.key} is blocked and has a valid token")


def _check_member(scene: Scene, verdict: Verdict, member: Member) -> None:
    """Check that the user gets a token for their only identity, or is blocked."""
    headers = bearer(scene.world.azure, member.person)
    responses = [call("POST", f"{service.url}/api/token", headers=headers) for service in scene.services]
    statuses = {response.status_code for response in responses}
    if statuses == {403}:
        if member.block_began is None:
            verdict.lost.append(f"{member.key} is blocked without a block")
    elif statuses != {200}:
        verdict.lost.append(f"{member.key} gets {statuses} when all is well")
    else:
        if member.blocked_at is not None:
            scene.tally.violate(f"{member.key} was blocked and gets a token")
        if len({response.json()["user"]["communicationUserId"] for response in responses}) > 1:
            verdict.duplicates.append(f"{member.key} has an identity at each service")
        for response in responses:
            check = scene.world.azure.check_token(response.json()["token"])
            if not check["valid"] or check["identity"] != response.json()["user"]["communicationUserId"]:
                scene.tally.violate(f"{member.key} got an invalid or foreign token")


def _orphans(scene: Scene) -> dict[str, str]:
    """Return the live identities that nothing refers to, each with its reason from the logs."""
    unknown = find_orphans(scene.world.azure, scene.world.tables)
    origins = {name: origin for name, origin in scene.world.azure.list_origins().items() if name in unknown}
    log = "\n".join(service.log() for service in scene.services) if origins else ""
    return {identity: _reason(identity, request_id, log) for identity, request_id in origins.items()}


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
        return "the response to its create was lost (identity_may_be_orphaned)"
    if not any(event["event"] == "request" and event.get("request_id") == request_id for event in about):
        return "the process was killed between its create and its row"
    return f"UNEXPLAINED: {sorted(events)} in request {request_id}"


def _check_logs(scene: Scene) -> None:
    secrets = {grant.token.split(".")[2] for member in scene.members for grant in member.grants}
    secrets |= {value for member in scene.members for jar in member.ended_cookies for value in jar.values()}
    for service in scene.services:
        text = service.log_path.read_text(encoding="utf-8", errors="replace")
        if re.search(r"eyJ[A-Za-z0-9_-]{10}", text) or any(secret in text for secret in secrets if secret):
            scene.tally.violate("a log contains a secret")
        if "Traceback" in text:
            scene.tally.violate(f"a traceback in {service.log_path}")
