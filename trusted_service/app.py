"""The application factory."""

from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from trusted_service import cli, web
from trusted_service.observability import logs
from trusted_service.services import Services
from trusted_service.settings import Settings
from trusted_service.web.http.context import with_context


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application. No network is touched. Raises SettingsError for bad settings."""
    settings = settings or Settings.from_env()
    logs.configure(settings.log_format)
    app = Flask(__name__, template_folder=str(Path(__file__).parent.parent / "templates"))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # it would respond to some paths with a redirect
    app.extensions["trusted_service"] = Services(settings)
    web.init_app(app, settings)
    cli.init_app(app)
    if settings.applicationinsights_connection_string:
        from trusted_service.observability import telemetry  # costs a second, so only if it is used

        telemetry.configure(settings.applicationinsights_connection_string)
    app.wsgi_app = with_context(app.wsgi_app, settings.public_url)  # type: ignore[assignment,method-assign]
    if settings.trusted_proxy_hops:
        # The client's address and nothing else: scheme and host are those of PUBLIC_URL.
        hops = settings.trusted_proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=0, x_host=0, x_prefix=0)  # type: ignore[method-assign]
    return app
