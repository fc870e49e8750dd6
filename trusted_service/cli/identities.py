"""`flask --app wsgi users …`: operators' commands about identities and the index of users."""

import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import BinaryIO, get_args

import click
from rich.console import Console
from rich.progress import track

from trusted_service.cli.users import command, operator, print_array, print_result, user_id
from trusted_service.models import UserId
from trusted_service.representation import csv_lines, user_json
from trusted_service.services import Services
from trusted_service.users.backup_file import BackupFile
from trusted_service.users.csv_file import UnreadableFile
from trusted_service.users.mapping_file import MappingRow, Result, read_mappings

MAP_HEADER = ("acs_user_id", "entra_object_id", "target_tenant_id", "status", "decision_owner")
UNREADABLE = {
    "encoding": "line {line} is not UTF-8: save it as CSV UTF-8.",
    "syntax": "line {line} is not valid CSV.",
    "column": "a row above all others must name objectId and communicationUserId. Line {line} has: {found}.",
    "cells": "line {line} has more cells than the header: {found}.",
    "lists": "line {line} stands among the users like the title of another list: {found}.",
    "backup": "line {line} is not as this version's `users export` writes it, or the file is cut short.",
    "empty": "there is no row in it.",
}


@command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Report what would happen to each row; change nothing.")
@click.option("--allow-other-resource", is_flag=True, help="Take identities of other resources too.")
def import_mappings(services: Services, file: BinaryIO, *, as_json: bool, **options: bool) -> None:
    """Import users with the identities that they have from another system, or what `users export` wrote.

    CSV has a header: objectId and communicationUserId, tenantId where several tenants are allowed, and if
    known name, username, createdAt, lastTokenAt, blocked. Each is named once; titles may stand above. Nothing
    is overwritten; doing it again continues. Exit 1 where a row is not taken. An export restores users and
    ledger, not sessions, events and jobs.
    """
    source = file if file.seekable() else io.BytesIO(file.read())
    rows: Sequence[MappingRow] | BackupFile
    try:
        if BackupFile.recognises(source):
            rows = BackupFile(source)
        else:
            rows = read_mappings(source.read(), services.settings.entra_allowed_tenants, datetime.now(UTC))
    except UnreadableFile as error:
        raise click.UsageError(f"{file.name}: {UNREADABLE[error.problem].format_map(vars(error))}") from None
    counts: Counter[Result] = Counter()

    def report() -> Iterator[dict[str, object]]:
        """Import and count the rows, with a progress bar on a terminal."""
        pin = rows.pin if isinstance(rows, BackupFile) else None
        results = services.mapping_import.run(operator(), rows, pin, **options)
        console, hidden = Console(stderr=True), not sys.stderr.isatty()
        for row in track(results, "Importing", len(rows), console=console, transient=True, disable=hidden):
            counts[row.result] += 1
            yield {
                "line": row.line,
                "user": row.user,
                "communicationUserId": row.acs_user_id,
                "result": row.result,
                "detail": row.detail,
            }

    if as_json:
        print_array(report())
    else:
        for row in report():
            click.echo("{line}  {result}  {user}  {detail}".format(**row).rstrip())
    summary = ", ".join(f"{counts[key]} {key}" for key in get_args(Result) if counts[key] or key != "skipped")
    click.echo(f"{summary}.{' Nothing was written.' if options['dry_run'] else ''}", err=as_json)
    if counts["conflict"] or counts["invalid"]:
        raise click.exceptions.Exit(1)


@command("restore")
@click.argument("user", type=user_id)
@click.argument("acs_user_id")
def restore(services: Services, user: UserId, acs_user_id: str, *, as_json: bool) -> None:
    """Point a user's mapping back at an identity that they had before."""
    identity = services.restoration.restore(operator(), user, acs_user_id)
    text = f"Restored: {user} has the identity {identity.acs_user_id}."
    print_result(user_json(identity), text, as_json=as_json)


@command("move-resource")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Report what would change; change nothing.")
def move_resource(services: Services, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Accept the Communication Services resource that the settings now name.

    Each user's next token creates an identity in it. To find the resource, one identity is created and
    deleted.
    """
    plan = services.restoration.plan_move()
    pinned = plan.pin.resource if plan.pin else None
    document = {"from": pinned, "to": plan.to, "needed": plan.needed, "users": sum(plan.users.values())}
    lines = [
        f"The identities here belong to:  {pinned or 'no resource yet'}",
        f"The settings now lead to:       {plan.to}",
        *(f"{count} users have an identity of {name}." for name, count in sorted(plan.users.items())),
        *([] if plan.needed else ["There is nothing to move."]),
    ]
    print_result(document, *lines, as_json=as_json)
    if dry_run or not plan.needed:
        return
    if not yes:
        click.confirm("Move these users to the other resource?", abort=True, err=True)
    services.restoration.move(operator(), plan)
    click.echo("Moved: each user's next token creates an identity in the new resource.", err=as_json)


@command("identity-map")
@click.option("--decision-owner", default="", help="Value of the last column of each row.")
def identity_map(services: Services, decision_owner: str, *, as_json: bool) -> None:
    """Write every identity that was ever issued, as CSV for moving chats to Microsoft 365."""
    rows = ((*row, decision_owner) for row in services.restoration.identity_map())
    with services.audit.action(operator(), "export", None, "identity-map"):
        if as_json:
            print_array(dict(zip(MAP_HEADER, row, strict=True)) for row in rows)
        else:
            for line in csv_lines(MAP_HEADER, rows):
                click.echo(line, nl=False)


@command("reindex")
def reindex(services: Services, *, as_json: bool) -> None:
    """Rebuild the index of users. Safe while the service runs; can be interrupted and repeated."""
    users = 0
    for more in services.reindex.run():
        users += more
        if sys.stderr.isatty():
            click.echo(f"\r{users} users", err=True, nl=False)
    print_result({"users": users}, f"{users} users are indexed.", as_json=as_json)
