"""Operators' commands: `flask --app wsgi …`. Exit status 0: done, 1: refused or failed, 2: wrong usage."""

import contextlib

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from trusted_service.cli import identities, users  # noqa: F401 # they add commands to `users`
from trusted_service.errors import UpstreamError, WrongResource
from trusted_service.services import Services


def init_app(app: Flask) -> None:
    app.cli.add_command(check_config)
    app.cli.add_command(users.users)


@click.command("check-config")
@click.option("--connect", is_flag=True, help="Also call Entra ID, Table Storage and Communication Services.")
@with_appcontext
def check_config(*, connect: bool) -> None:
    """Name every setting that is missing, malformed or weak."""
    click.echo("The settings are usable.")
    for warning in current_app.extensions["trusted_service"].settings.warnings():
        click.echo(f"Warning: {warning}")
    if not connect:
        return
    services: Services = current_app.extensions["trusted_service"]
    failures = services.readiness.failures()
    if failures["communicationServices"]:
        with contextlib.suppress(UpstreamError):
            # Name the resource that responds, if it is another: this creates and deletes an identity.
            pin, found = services.pin.find(), services.communication.find_own_resource()
            if pin is not None and found not in (pin.resource, None):
                reason = WrongResource(pin.resource, str(found)).reason
                failures["communicationServices"] = f"{reason} (see `flask --app wsgi users move-resource`)"
    for name, failure in failures.items():
        click.echo(f"{name}: {failure or 'ok'}")
    if any(failures.values()):
        raise click.exceptions.Exit(1)
