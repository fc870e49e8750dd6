"""`flask --app wsgi users …`: what administrators' pages do, for operators and their scripts."""

import functools
import json
import os
import pwd
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, cast

import click
from flask import current_app
from flask.cli import AppGroup
from rich.console import Console
from rich.table import Table

from trusted_service.directory import Status, UserQuery
from trusted_service.errors import NotFound, TrustedServiceError
from trusted_service.models import Actor, Identity, UserId
from trusted_service.repair import Finding
from trusted_service.representation import unknown_user_json, user_json
from trusted_service.services import Services

Arguments = ParamSpec("Arguments")

PAGE = 500
SWEEP_SECONDS = 3

users = AppGroup("users", help="See, cut off and erase users.")


class UserParameter(click.ParamType[UserId]):
    """`<tenant id>/<object id>`, or `<object id>` alone where one tenant is allowed."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UserId:
        if isinstance(value, UserId):
            return value
        tenant_id, slash, object_id = str(value).rpartition("/")
        tenants = _services().settings.entra.allowed_tenants
        if not slash and len(tenants) != 1:
            self.fail("several tenants are allowed: name the user as <tenant id>/<object id>", param, ctx)
        try:
            return UserId.parse(tenant_id if slash else tenants[0], object_id)
        except ValueError:
            self.fail("must be <tenant id>/<object id>, or <object id>: both are GUIDs", param, ctx)


USER = UserParameter()


def command(
    name: str,
) -> Callable[[Callable[Concatenate[Services, Arguments], None]], click.Command]:
    """A command of the group, with `--json`, whose failures are one line and exit code 1."""

    def make(function: Callable[Concatenate[Services, Arguments], None]) -> click.Command:
        @functools.wraps(function)
        def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
            try:
                function(_services(), *arguments, **options)
            except NotFound:
                raise click.ClickException("There is no such user.") from None
            except TrustedServiceError as error:
                raise click.ClickException(str(error) or type(error).__name__) from None

        as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
        return users.command(name)(as_json(run))

    return make


@command("list")
@click.option(
    "--q", "text", default="", help="Beginning of a word of the name or of the user name, or an id."
)
@click.option("--status", type=click.Choice(["active", "blocked"]), default=None)
def list_users(services: Services, text: str, status: Status | None, *, as_json: bool) -> None:
    """List the users, the newest first."""
    query = UserQuery(text=text.strip(), status=status)
    found = _all_pages(services, query)
    if as_json:
        print_array(user_json(user) for user in found)
        return
    table = Table("Name", "User name", "Tenant / object id", "Identity", "Last token", "Status", box=None)
    for user in found:
        shown = user_json(user)
        table.add_row(
            user.name,
            user.username,
            str(user.user_id),
            shown["communicationUserId"] or "-",
            shown["lastTokenAt"] or "-",
            "blocked" if user.blocked else "active",
        )
    _print_table(table)


@command("show")
@click.argument("user", type=USER)
def show(services: Services, user: UserId, *, as_json: bool) -> None:
    """Show one user."""
    identity = services.lookup.find(user)
    if identity is None:
        raise NotFound
    _print_user(user_json(identity), as_json=as_json)


@command("block")
@click.argument("user", type=USER)
@click.option("--reason", default="", help="For administrators to read.")
def block(services: Services, user: UserId, reason: str, *, as_json: bool) -> None:
    """Keep a user out: sessions end, tokens are revoked, no sign-in. They need not have come yet."""
    try:
        services.administration.block(operator(), user, reason)
        _print_result(services, user, "Blocked.", as_json=as_json)
    finally:
        time.sleep(SWEEP_SECONDS)  # this process ends before a sweep that comes later
        services.administration.sweep(user)


@command("unblock")
@click.argument("user", type=USER)
def unblock(services: Services, user: UserId, *, as_json: bool) -> None:
    """Let a blocked user in again."""
    services.administration.unblock(operator(), user)
    _print_result(services, user, "Unblocked.", as_json=as_json)


@command("revoke")
@click.argument("user", type=USER)
def revoke(services: Services, user: UserId, *, as_json: bool) -> None:
    """Revoke all ACS tokens of a user; it takes up to 15 minutes to reach everywhere."""
    services.administration.revoke(operator(), user)
    _print_result(services, user, "Tokens are revoked.", as_json=as_json)


@command("sign-out")
@click.argument("user", type=USER)
def sign_out(services: Services, user: UserId, *, as_json: bool) -> None:
    """End all sessions of a user."""
    services.administration.sign_out(operator(), user)
    _print_result(services, user, "All sessions are ended.", as_json=as_json)


@command("delete")
@click.argument("user", type=USER)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(services: Services, user: UserId, *, yes: bool, as_json: bool) -> None:
    """Erase a user: sessions, ACS identity and mapping. It cannot be undone; a block stays."""
    if not yes:
        click.confirm(f"Erase {user} for good?", abort=True, err=True)
    existed = services.administration.delete(operator(), user)
    _print_result(services, user, "Deleted." if existed else "There was no such user.", as_json=as_json)


@command("export")
@click.argument("user", type=USER, required=False)
def export(services: Services, user: UserId | None, *, as_json: bool) -> None:
    """Write all that is stored, of one user or of everybody, as JSON (with or without --json)."""
    if user is not None and not _is_known(services, user):
        raise NotFound
    with services.trail.action(operator(), "export", user):
        if user is not None:
            print_json(services.administration.export(user))
        else:
            print_array(
                services.administration.export(identity.user_id) for identity in services.lookup.all()
            )


@command("repair")
@click.option("--dry-run", is_flag=True, help="Say what would be mended, and change nothing.")
def repair(services: Services, *, dry_run: bool, as_json: bool) -> None:
    """Find and mend what a crash or a restored older copy left behind.

    Blocks and deletions that were interrupted, users whom lists do not show as they are, and, by the audit
    trail, blocks that are lifted and erased users who are back although nobody did that.
    """
    counts: Counter[bool] = Counter()

    def counted() -> Iterator[Finding]:
        for finding in services.repair.run(operator(), dry_run=dry_run):
            counts[bool(finding.failure)] += 1
            yield finding

    if as_json:
        print_array(_finding_json(finding) for finding in counted())
    else:
        for finding in counted():
            failure = f"not mended: {finding.failure}" if finding.failure else ""
            click.echo("  ".join(filter(None, (finding.kind, str(finding.user_id), finding.detail, failure))))
        click.echo(f"{counts.total()} found{'' if dry_run else f', {counts[False]} mended'}.")
    if counts[True]:
        raise click.exceptions.Exit(1)


def _finding_json(finding: Finding) -> dict[str, str]:
    found = {"kind": finding.kind, "user": str(finding.user_id), "detail": finding.detail}
    return found | ({"failure": finding.failure} if finding.failure else {})


def _services() -> Services:
    return cast(Services, current_app.extensions["trusted_service"])


def operator() -> Actor:
    """Who sits at the command line, as the operating system names them."""
    name = _os_user()
    return Actor(kind="operator", key=f"{name}@{socket.gethostname()}", name=name)


def _os_user() -> str:
    # Not getpass.getuser(), which believes LOGNAME.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def _all_pages(services: Services, query: UserQuery) -> Iterator[Identity]:
    page = services.directory.page(query, size=PAGE)
    yield from page.users
    while page.next is not None:
        page = services.directory.page(query, page.next, size=PAGE)
        yield from page.users


def _is_known(services: Services, user: UserId) -> bool:
    """Whether anything is stored about the user: they may have come without getting a token."""
    return (
        services.lookup.find(user) is not None
        or bool(services.sessions.of_user(user))
        or next(services.trail.about(user), None) is not None
    )


def _print_result(services: Services, user: UserId, done: str, *, as_json: bool) -> None:
    if as_json:
        identity = services.lookup.find(user)
        print_json(unknown_user_json(user) if identity is None else user_json(identity))
    else:
        click.echo(done)


def _print_user(user: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    table = Table(show_header=False, box=None)
    for name, value in user.items():
        table.add_row(name, "-" if value in (None, "") else str(value))
    _print_table(table)


def _print_table(table: Table) -> None:
    # Wide enough for two ids in a row, whatever the terminal's width: a shortened id is of no use.
    Console(width=240, highlight=False, markup=False, soft_wrap=True).print(table)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_array(values: Iterator[object]) -> None:
    """Print as they come: everybody may not fit into memory."""
    click.echo("[", nl=False)
    for number, value in enumerate(values):
        click.echo("," * (number > 0) + "\n" + json.dumps(value), nl=False)
    click.echo("\n]")
