"""`flask --app wsgi users import FILE`: takes in the mappings of another system."""

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import Progress

from trusted_service.csv_file import UnreadableList
from trusted_service.mapping_file import read_mappings
from trusted_service.mapping_import import Imported
from trusted_service.services import Services
from trusted_service.user_commands import command, operator, print_array

RESULTS = ("imported", "present", "conflict", "invalid")
_UNREADABLE = {
    "encoding": "line {line} is not UTF-8.",
    "syntax": "line {line} is no CSV.",
    "column": "the header must name objectId and communicationUserId.",
    "empty": "there is no row in it.",
}


@command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Say what would become of each row, and change nobody.")
@click.option(
    "--allow-other-resource",
    is_flag=True,
    help="Take identities of another Communication Services resource too (see move-resource).",
)
def import_mappings(
    services: Services, file: BinaryIO, *, dry_run: bool, allow_other_resource: bool, as_json: bool
) -> None:
    """Take in users with the identities that they have from another system, or from `users.csv`.

    CSV with a header: objectId and communicationUserId, tenantId where several tenants are allowed, and
    name, username, createdAt, lastTokenAt, blocked if they are known. Nothing is overwritten, and doing
    it again goes on where it ended. Exit 1 where a row is not taken.
    """
    try:
        rows = read_mappings(file.read(), services.settings.entra.allowed_tenants, datetime.now(UTC))
    except UnreadableList as error:
        raise click.UsageError(f"{file.name}: {_UNREADABLE[error.problem].format(line=error.line)}") from None
    counts: Counter[str] = Counter()
    results = services.mapping_import.run(
        operator(), rows, dry_run=dry_run, allow_other_resource=allow_other_resource
    )
    imported = _counted(results, counts, len(rows))
    if as_json:
        print_array(_import_json(one) for one in imported)
    else:
        for one in imported:
            click.echo(f"{one.row.line}  {one.result}  {one.row.user}  {one.detail}".rstrip())
    summary = ", ".join(f"{counts[result]} {result}" for result in RESULTS)
    click.echo(f"{summary}.{' Nothing was written.' if dry_run else ''}", err=as_json)
    if counts["conflict"] or counts["invalid"]:
        raise click.exceptions.Exit(1)


def _import_json(imported: Imported) -> dict[str, object]:
    row = imported.row
    return {
        "line": row.line,
        "user": row.user,
        "communicationUserId": row.acs_user_id,
        "result": imported.result,
        "detail": imported.detail,
    }


def _counted(imported: Iterator[Imported], counts: Counter[str], total: int) -> Iterator[Imported]:
    """Count the results, and show the progress to a person who waits."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Importing", total=total)
        for one in imported:
            counts[one.result] += 1
            progress.advance(task)
            yield one
