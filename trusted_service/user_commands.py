"""`flask --app wsgi users …`: what administrators' pages do, for operators and their scripts."""

import functools
import json
import os
import pwd
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, cast

import click
from flask import current_app
from flask.cli import AppGroup
from rich.console import Console
from rich.table import Table

from trusted_service.errors import NotFound, TrustedServiceError
from trusted_service.models import Actor, Identity, UserId
from trusted_service.representation import unknown_user_json, user_json
from trusted_service.services import Services
from trusted_service.user_query import UserQuery, parse_status

Arguments = ParamSpec("Arguments")

PAGE = 500
SWEEP_SECONDS = 3
LATE_SECONDS = 2

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
@click.option("--q", "text", default="", help="Beginning of a name or user name, object id, or ACS user id.")
@click.option("--status", type=click.Choice(["active", "blocked"]), default=None)
def list_users(services: Services, text: str, status: str | None, *, as_json: bool) -> None:
    """List the users, the newest first."""
    query = UserQuery(text=text.strip(), status=parse_status(status or ""))
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
    identity = services.directory.find(user)
    if identity is None:
        raise NotFound
    _print_user(user_json(identity), as_json=as_json)


@command("block")
@click.argument("user", type=USER)
@click.option("--reason", default="", help="For administrators to read.")
def block(services: Services, user: UserId, reason: str, *, as_json: bool) -> None:
    """Keep a user out: sessions end, tokens are revoked, no sign-in. They need not have come yet."""
    services.administration.block(operator(), user, reason)
    _print_result(services, user, "Blocked.", as_json=as_json)
    time.sleep(SWEEP_SECONDS)  # this process ends before a sweep that comes later
    services.administration.sweep(user)


@command("unblock")
@click.argument("user", type=USER)
def unblock(services: Services, user: UserId, *, as_json: bool) -> None:
    """Let a blocked user in again."""
    services.administration.unblock(operator(), user)
    services.directory.catch_up()
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
    services.directory.catch_up()  # this process ends before what comes later
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
                services.administration.export(identity.user_id) for identity in services.directory.all()
            )


@command("repair")
@click.option("--dry-run", is_flag=True, help="Say what would be mended, and change nothing.")
def repair(services: Services, *, dry_run: bool, as_json: bool) -> None:
    """Find and mend what a crash left behind: missing or stale search rows, deletions cut short."""
    findings = services.repair.run(operator(), dry_run=dry_run)
    if as_json:
        print_array(
            {"kind": finding.kind, "user": str(finding.user_id), "detail": finding.detail}
            for finding in findings
        )
        return
    lines = (f"{finding.kind}  {finding.user_id}  {finding.detail}".rstrip() for finding in findings)
    found = sum(1 for _ in map(click.echo, lines))
    click.echo(f"{found} found{'' if dry_run else ' and mended'}.")


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
    with _said_when_late("The index of users is brought up to date first…"):
        services.directory.catch_up()
    page = services.directory.page(query, size=PAGE)
    yield from page.users
    while page.next is not None:
        page = services.directory.page(query, page.next, size=PAGE)
        yield from page.users


@contextmanager
def _said_when_late(text: str) -> Iterator[None]:
    """Say it where what is done inside takes longer than people wait without a word."""
    late = threading.Timer(LATE_SECONDS, functools.partial(click.echo, text, err=True))
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def _is_known(services: Services, user: UserId) -> bool:
    """Whether anything is stored about the user: they may have come without getting a token."""
    return (
        services.directory.find(user) is not None
        or bool(services.sessions.of_user(user))
        or next(services.trail.about(user), None) is not None
    )


def _print_result(services: Services, user: UserId, done: str, *, as_json: bool) -> None:
    if as_json:
        identity = services.directory.find(user)
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
