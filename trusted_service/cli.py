"""Operators' commands: `flask --app wsgi …`. Exit 0: done, 1: refused or failed, 2: wrong usage."""

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from trusted_service import identity_commands
from trusted_service.errors import UpstreamError, WrongResource
from trusted_service.import_command import import_mappings
from trusted_service.services import Services
from trusted_service.user_commands import users


def init_app(app: Flask) -> None:
    app.cli.add_command(check_config)
    app.cli.add_command(users)
    users.add_command(import_mappings)
    for command in (
        identity_commands.restore,
        identity_commands.move_resource,
        identity_commands.identity_map,
        identity_commands.reindex,
    ):
        users.add_command(command)


@click.command("check-config")
@click.option("--connect", is_flag=True, help="Also call Entra ID, Table Storage and Communication Services.")
@with_appcontext
def check_config(*, connect: bool) -> None:
    """Name every setting that is missing, malformed or weak.

    Bad settings end every command before it begins, with the same message and status 1: there is
    no application without them.
    """
    click.echo("The settings are usable.")
    if not connect:
        return
    services: Services = current_app.extensions["trusted_service"]
    failures = services.readiness.failures()
    for name, failure in failures.items():
        if name == "communicationServices" and failure is not None:
            failure = _name_resource(services, failure)
        click.echo(f"{name}: {failure or 'ok'}")
    if any(failures.values()):
        raise click.exceptions.Exit(1)


def _name_resource(services: Services, failure: str) -> str:
    """The failure with the resource that answers where it is another one; that takes an identity for a
    moment."""
    try:
        pin = services.pin.find()
        found = services.communication.find_own_resource()
    except UpstreamError:
        return failure
    if pin is None or found in (pin.resource, None):
        return failure
    return f"{WrongResource(pin.resource, str(found)).reason} (see `flask --app wsgi users move-resource`)"
