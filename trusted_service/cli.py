"""Operators' commands: `flask --app wsgi …`. Exit 0: done, 1: refused or failed, 2: wrong usage."""

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from trusted_service.import_command import import_mappings
from trusted_service.services import Services
from trusted_service.user_commands import users


def init_app(app: Flask) -> None:
    app.cli.add_command(check_config)
    app.cli.add_command(users)
    users.add_command(import_mappings)


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
        click.echo(f"{name}: {failure or 'ok'}")
    if any(failures.values()):
        raise click.exceptions.Exit(1)
