"""`gunicorn wsgi:app` and `flask --app wsgi …` start here."""

import click

from trusted_service import cli
from trusted_service.app import create_app
from trusted_service.settings import SettingsError

try:
    app = create_app()
except SettingsError as error:
    # The flask command prints this as one message and ends with 1; under gunicorn, its configuration
    # has checked the settings before any worker starts.
    context = click.get_current_context(silent=True)
    if context is None or context.parent is not None:
        raise click.ClickException(str(error)) from None
    app = cli.help_app(error)  # flask asks which commands there are, for their help perhaps
