"""`flask --app wsgi doctor`: what an operator pastes into a ticket. It names no secret and no person."""

import json
import os
import platform
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import distributions
from itertools import islice

import click
from flask import current_app
from flask.cli import with_appcontext

from trusted_service import __version__
from trusted_service.audit import AuditQuery
from trusted_service.azure import deadlines
from trusted_service.azure.parallel import map_parallel
from trusted_service.cli import checks
from trusted_service.errors import UpstreamError
from trusted_service.models import Identity, rfc3339, without_secrets
from trusted_service.services import Services
from trusted_service.settings import FIELDS, Settings
from trusted_service.settings.credentials import end_of_certificate

MAX_SECONDS = 40.0
"""For all calls; the report has what was read until then."""
EVENTS, FAILURES = 1000, 10


@click.command("doctor")
@click.option("--json", is_flag=True, expose_value=False, help="It is JSON with or without this.")
@with_appcontext
def doctor() -> None:
    """Report versions, settings, checks, counts and the last errors, as JSON for a ticket.

    It has no secrets and no names, ends within a minute, and says what could not be read. As `check-config
    --connect` does, it creates an identity in Communication Services and deletes it again.
    """
    parts: dict[str, Callable[[], object]] = {"versions": _versions}
    try:
        parts |= _parts(current_app.extensions["trusted_service"])
    except click.ClickException as error:  # the settings are not usable
        problems = error.message.splitlines()
        names = [name for one in FIELDS for name in (one, f"{one}_FILE") if os.environ.get(name)]
        parts |= {"problems": lambda: problems, "settings that are set": lambda: names}
    with deadlines.request_budget(str(uuid.uuid4()), MAX_SECONDS):
        found = map_parallel(_read, parts.values(), len(parts))
    click.echo(without_secrets(json.dumps(dict(zip(parts, found, strict=True)), indent=2)))


def _parts(services: Services) -> dict[str, Callable[[], object]]:
    settings, path = services.settings, services.settings.entra_client_certificate_path
    return {
        "settings": lambda: _settings(settings),
        "warnings": settings.warnings,
        "checks": lambda: checks.connect(services),
        "certificateEnds": lambda: path and rfc3339(end_of_certificate(path)),
        "clockAheadOfStorageSeconds": lambda: round(
            (datetime.now(UTC) - services.retention.clock()).total_seconds()
        ),
        "resource": lambda: (pin := services.pin.find(fresh=True)) and pin.row(),
        "index": lambda: _index(services),
        "users": lambda: _count(map(_kinds, services.identities.all())),
        "ledger": lambda: _count([entry.reason or "current"] for entry in services.ledger.all()),
        "sessions": lambda: _count(["all"] for _ in services.sessions.all_keys()),
        "jobs": lambda: _count([job.state] for job in services.jobs.newest(after="", limit=EVENTS)),
        "failedInTheAuditTrail": lambda: _failed_events(services),
        "failedRowsOfJobs": lambda: _failed_rows(services),
    }


def _read(part: Callable[[], object]) -> object:
    try:
        return part()
    except Exception as error:  # a defect in one part must not hide the others
        reason = str(error) if isinstance(error, UpstreamError) else type(error).__name__
        return f"could not be read: {reason}"


def _versions() -> dict[str, object]:
    return {
        "service": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": dict(sorted((package.name.lower(), package.version) for package in distributions())),
    }


def _settings(settings: Settings) -> dict[str, object]:
    values = {str(field.alias): getattr(settings, name) for name, field in Settings.model_fields.items()}
    return {name: values[name] if FIELDS[name].repr or not values[name] else "set" for name in values}


def _index(services: Services) -> str:
    services.index.require()
    return "complete"


def _kinds(user: Identity) -> Iterator[str]:
    marks = {"blocked": user.blocked, "deleting": user.deleting, "missing": user.missing_since}
    yield from ("all", *(mark for mark, has in ({**marks, "notIndexed": not user.indexed}).items() if has))


def _count(rows: Iterable[Iterable[str]]) -> dict[str, object]:
    """How many rows there are of each kind, as far as they can be read."""
    counts: Counter[str] = Counter()
    try:
        for kinds in rows:
            counts.update(kinds)
    except UpstreamError as error:
        return {**counts, "incomplete": str(error)}
    return dict(counts)


def _failed_events(services: Services) -> list[dict[str, str]]:
    """The last ones, without users and actors: the name of an operator's account may be a person's."""
    events = (event for _, event in services.audit.page(AuditQuery(), limit=EVENTS))
    return [
        {"at": rfc3339(one.at), "action": one.action, "detail": one.detail, "requestId": one.request_id}
        for one in islice((event for event in events if event.outcome == "failed"), FAILURES)
    ]


def _failed_rows(services: Services) -> list[dict[str, object]]:
    """One for each of the last jobs that have some, with the reason of the first."""
    return [
        {
            "at": rfc3339(job.created_at),
            "action": job.action,
            "rows": job.states["failed"],
            "detail": row.detail,
        }
        for job in services.jobs.newest(after="", limit=FAILURES)
        for row in islice((row for row in services.jobs.all_items(job) if row.state == "failed"), 1)
    ]
