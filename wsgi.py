"""`gunicorn wsgi:app` and `flask --app wsgi …` start here."""

import click

from trusted_service.app import create_app
from trusted_service.settings import SettingsError

try:
    app = create_app()
except SettingsError as error:
    # The flask command prints this as one message and ends with 1; under gunicorn, its configuration
    # has checked the settings before any worker starts.
    raise click.ClickException(str(error)) from None
