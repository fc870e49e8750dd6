"""Operators' commands: `flask --app wsgi …`. Exit status 0: done, 1: refused or failed, 2: wrong usage."""

from typing import Any, NoReturn

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from trusted_service.cli import checks, doctor, identities, users  # noqa: F401 # `identities` adds to `users`
from trusted_service.services import Services
from trusted_service.settings import SettingsError


def init_app(app: Flask) -> None:
    app.cli.add_command(check_config)
    app.cli.add_command(doctor.doctor)
    app.cli.add_command(users.users)


class _NoServices(dict[str, Any]):
    """In place of an app's extensions: a command that needs them fails with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __missing__(self, _name: str) -> NoReturn:
        raise click.ClickException(self._reason)


def help_app(error: SettingsError) -> Flask:
    """An app without settings, whose commands have their help and fail otherwise. It serves nothing."""
    app = Flask(__name__)
    app.extensions = _NoServices(str(error))
    init_app(app)
    return app


@click.command("check-config")
@click.option("--connect", is_flag=True, help="Also authenticate to Entra ID, Azure and Redis.")
@with_appcontext
def check_config(*, connect: bool) -> None:
    """Name every setting that is missing, malformed or weak.

    With --connect, an identity is created in Communication Services and deleted again: that alone tells
    which resource responds.
    """
    services: Services = current_app.extensions["trusted_service"]
    click.echo("The settings are usable.")
    for warning in services.settings.warnings():
        click.echo(f"Warning: {warning}")
    if not connect:
        return
    lines = checks.connect(services)
    for name, line in lines.items():
        click.echo(f"{name}: {line}")
    if set(lines.values()) != {"ok"}:
        raise click.exceptions.Exit(1)
