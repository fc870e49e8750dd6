"""Pages and API: hooks, and views that read a request, call services and render the response."""

from flask import Flask

from trusted_service.settings import Settings
from trusted_service.web import i18n, openapi
from trusted_service.web.http import context, error_handlers, request_body, static_files
from trusted_service.web.security import audiences, authentication, headers, rate_limits, signing
from trusted_service.web.views import account, admin, admin_api, api, audit, auth, health, home, jobs, usage

VIEWS = (home, account, auth, api, admin, audit, usage, jobs, admin_api, health, openapi)


def init_app(app: Flask, settings: Settings) -> None:
    """Register hooks and routes. The order of the hooks matters: context, then caller, then rate limits."""
    signing.init_app(app, settings)
    context.init_app(app)
    error_handlers.init_app(app)
    headers.init_app(app, settings)
    i18n.init_app(app)
    app.config["MAX_CONTENT_LENGTH"] = request_body.LARGEST_BODY
    static_files.init_app(app)
    authentication.init_app(app)
    rate_limits.init_app(app, settings.rate_limit_storage_uri)
    for view in VIEWS:
        app.register_blueprint(view.bp)
    audiences.require_one_for_each_route(app)
