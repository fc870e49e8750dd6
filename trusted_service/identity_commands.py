"""`flask --app wsgi users …`: operators' commands about identities and the index of users."""

import sys

import click
from rich.console import Console
from rich.progress import Progress

from trusted_service.models import UserId
from trusted_service.representation import csv_lines, user_json
from trusted_service.restoration import Move
from trusted_service.services import Services
from trusted_service.user_commands import USER, command, operator, print_json

MAP_HEADER = ("acs_user_id", "entra_object_id", "target_tenant_id", "status", "decision_owner")


@command("restore")
@click.argument("user", type=USER)
@click.argument("acs_user_id")
def restore(services: Services, user: UserId, acs_user_id: str, *, as_json: bool) -> None:
    """Point a user's mapping back at an identity that they had before."""
    identity = services.restoration.restore(operator(), user, acs_user_id)
    if as_json:
        print_json(user_json(identity))
    else:
        click.echo(f"Restored: {user} has the identity {identity.acs_user_id}.")


@command("move-resource")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
def move_resource(services: Services, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Accept the Communication Services resource that the settings now name.

    From then on each user's next token creates an identity in it; the former ones stay in the ledger. Finding
    out which resource answers creates one identity and deletes it again.
    """
    plan = services.restoration.plan_move()
    _describe_move(plan, as_json=as_json)
    if dry_run or not plan.needed:
        return
    if not yes:
        click.confirm("Move these users to the other resource?", abort=True, err=True)
    services.restoration.move(operator(), plan)
    click.echo("Moved: each user's next token creates an identity in the new resource.", err=as_json)


@command("identity-map")
@click.option("--decision-owner", default="", help="What stands in the last column of each row.")
def identity_map(services: Services, decision_owner: str, *, as_json: bool) -> None:
    """Write every identity that was ever issued, as CSV for moving chats to Microsoft 365."""
    rows = ((*row, decision_owner) for row in services.restoration.identity_map())
    with services.trail.action(operator(), "export", None, "identity-map"):
        if as_json:
            print_json([dict(zip(MAP_HEADER, row, strict=True)) for row in rows])
        else:
            for line in csv_lines(MAP_HEADER, rows):
                click.echo(line, nl=False)


@command("reindex")
def reindex(services: Services, *, as_json: bool) -> None:
    """Build the index of users anew. Safe while the service runs; can be interrupted and repeated."""
    users = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Users", total=None)
        for more in services.reindex.run():
            users += more
            progress.update(task, completed=users)
    if as_json:
        print_json({"users": users})
    else:
        click.echo(f"{users} users are indexed.")


def _describe_move(plan: Move, *, as_json: bool) -> None:
    pinned = plan.pin.resource if plan.pin else None
    if as_json:
        print_json({"from": pinned, "to": plan.to, "needed": plan.needed, "users": sum(plan.users.values())})
        return
    click.echo(f"The identities here belong to:  {pinned or 'no resource yet'}")
    click.echo(f"The settings now lead to:       {plan.to}")
    for resource, count in sorted(plan.users.items()):
        click.echo(f"{count} users have an identity of {resource}.")
    if not plan.needed:
        click.echo("There is nothing to move.")
