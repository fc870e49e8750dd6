"""`flask --app wsgi users …`: what administrators' pages do, for operators and their scripts."""

import functools
import json
import os
import pwd
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from trusted_service.errors import LastAdministrator, NotFound, TrustedServiceError
from trusted_service.models import MAX_REASON, Actor, Identity, UserId
from trusted_service.representation import user_json
from trusted_service.services import Services
from trusted_service.users.actions import ACTIONS, LAST_ADMINISTRATOR, Action
from trusted_service.users.administration import SWEEP_DELAYS
from trusted_service.users.directory import Position, Status, UserQuery, search_text

USER_LINE = "{:<30}  {:<36}  {:<73}  {:<86}  {:<20}  {}"

users = AppGroup("users", help="Manage users.")


def command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of the group, with `--json`, whose failures are one line and exit status 1."""

    def make(function: Callable[..., None]) -> click.Command:
        @users.command(name)
        @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
        @functools.wraps(function)
        def run(**options: Any) -> None:
            try:
                function(current_app.extensions["trusted_service"], **options)
            except NotFound:
                raise click.ClickException("There is no such user.") from None
            except LastAdministrator as error:
                raise click.ClickException(f"This is {error}: add --{LAST_ADMINISTRATOR}.") from None
            except TrustedServiceError as error:
                raise click.ClickException(str(error) or type(error).__name__) from None

        return run

    return make


def user_id(text: str) -> UserId:
    """A parameter: `<tenant id>/<object id>`, or `<object id>` alone where one tenant is allowed."""
    tenants = current_app.extensions["trusted_service"].settings.entra_allowed_tenants
    try:
        return UserId.parse_key(text, tenants)
    except ValueError:
        short_form = " or <object id>" if len(tenants) == 1 else ", as several tenants are allowed"
        raise click.BadParameter(f"must be <tenant id>/<object id>{short_form}; both are GUIDs") from None


def operator() -> Actor:
    """The operator at the command line, as the operating system names them."""
    # Not getpass.getuser(), which believes LOGNAME.
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return Actor(kind="operator", key=f"{name}@{socket.gethostname()}")


def print_result(document: object, *lines: str, as_json: bool) -> None:
    """Print the document for programs, or the lines for people."""
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(lines))


def print_array(values: Iterable[object]) -> None:
    """Print the values as JSON, one by one: all users may not fit into memory."""
    click.echo("[", nl=False)
    for number, value in enumerate(values):
        click.echo("," * (number > 0) + "\n" + json.dumps(value), nl=False)
    click.echo("\n]")


@command("list")
@click.option(
    "--q", "text", default="", help="Beginning of a word of the name or of the user name, or an id."
)
@click.option("--status", type=click.Choice(["active", "blocked"]), default=None)
def list_users(services: Services, text: str, status: Status | None, *, as_json: bool) -> None:
    """List the users, the newest first."""
    found = map(user_json, _all_pages(services, UserQuery(text=search_text(text), status=status)))
    if as_json:
        print_array(found)
        return
    click.echo(USER_LINE.format("Name", "User name", "Tenant/object id", "Identity", "Last token", "Status"))
    for user in found:
        ids = f"{user['tenantId']}/{user['objectId']}", user["communicationUserId"] or "-"
        status = "blocked" if user["blocked"] else "active"
        names = user["name"] or "-", user["username"] or "-"
        click.echo(USER_LINE.format(*names, *ids, user["lastTokenAt"] or "-", status))


def _all_pages(services: Services, query: UserQuery) -> Iterator[Identity]:
    position: Position | None = Position()
    while position is not None:
        page = services.directory.page(query, position, size=500)
        yield from page.users
        position = page.next


@command("show")
@click.argument("user", type=user_id)
def show(services: Services, user: UserId, *, as_json: bool) -> None:
    """Show one user."""
    document = user_json(services.identities.get(user))
    lines = (f"{name:<21}{'-' if value in (None, '') else value}" for name, value in document.items())
    print_result(document, *lines, as_json=as_json)


def _add_action(action: Action) -> None:
    """Add the command for the action, with the options that it takes."""

    def run(services: Services, user: UserId, *, as_json: bool, reason: str = "", **flags: bool) -> None:
        if len(reason) > MAX_REASON:
            raise click.UsageError(f"The reason must have at most {MAX_REASON} characters.")
        if not flags.get("yes", True):
            click.confirm(f"Erase {user} for good?", abort=True, err=True)
        confirmed = flags.get("last_administrator", False)
        result = action.run(services.administration, operator(), user, reason=reason, confirmed=confirmed)
        identity = services.identities.find(user) if as_json or "wait" in flags else None
        text = "There was no such user." if result is False else action.done_text
        print_result(user_json(identity or user), text, as_json=as_json)
        if flags.get("wait") and identity and identity.acs_user_id:
            _finish_block(services, user)

    run.__doc__ = f"{action.summary}. {action.description}"
    if action.name == "block":
        run = click.option("--wait/--no-wait", default=True, help="Also revoke tokens in progress.")(run)
        run = click.option("--reason", default="", help="For administrators to read.")(run)
    if action.ends_access:
        run = click.option(f"--{LAST_ADMINISTRATOR}", is_flag=True, help="Even the last administrator.")(run)
    if action.name == "delete":
        run = click.option("--yes", is_flag=True, help="Do not ask.")(run)
    command(action.name)(click.argument("user", type=user_id)(run))


def _finish_block(services: Services, user: UserId) -> None:
    """Do the last sweep here, as the process ends before a background task would."""
    click.echo(f"Waiting {SWEEP_DELAYS[-1]:.0f} s to revoke tokens in progress …", err=True)
    try:
        time.sleep(SWEEP_DELAYS[-1])
        services.administration.sweep(user)
    except KeyboardInterrupt:
        raise click.ClickException("The block holds, but tokens in progress may stay valid.") from None


for _action in ACTIONS.values():
    _add_action(_action)


@command("export")
@click.argument("user", type=user_id, required=False)
def export(services: Services, user: UserId | None, *, as_json: bool) -> None:
    """Write all that is stored, of one user or of everybody, as JSON (with or without --json).

    `users import` restores it.
    """
    if not (
        user is None
        or services.identities.find(user)
        or services.sessions.list_by_user(user)  # without an identity yet
        or next(services.audit.about_or_by(user), None)
        or services.ledger.owned_by(user)
    ):
        raise NotFound
    with services.audit.action(operator(), "export", user):
        if user is not None:
            print_result(services.personal_data.export(user, is_backup=True), as_json=True)
        else:
            print_array(services.personal_data.back_up_all())


@command("repair")
@click.option("--dry-run", is_flag=True, help="Report what would be repaired; change nothing.")
def repair(services: Services, *, dry_run: bool, as_json: bool) -> None:
    """Find and repair what a crash or a restored older copy left behind.

    Interrupted blocks and deletions, outdated lists, and users whom the audit trail says to be blocked or
    erased.
    """
    counts: Counter[bool] = Counter()

    def findings() -> Iterator[dict[str, str]]:
        for finding in services.repair.run(operator(), dry_run=dry_run):
            counts[bool(finding.failure)] += 1
            found = {"kind": finding.kind, "user": str(finding.user_id), "detail": finding.detail}
            yield found | ({"failure": finding.failure} if finding.failure else {})

    if as_json:
        print_array(findings())
    else:
        for finding in findings():
            failure = f"not repaired: {finding.pop('failure')}" if "failure" in finding else ""
            click.echo("  ".join(filter(None, (*finding.values(), failure))))
        click.echo(f"{counts.total()} found{'' if dry_run else f', {counts[False]} repaired'}.")
    if counts[True]:
        raise click.exceptions.Exit(1)
