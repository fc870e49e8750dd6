"""The only place that knows Flask: reads requests, calls one service method, renders."""

from flask import Flask
from flask_bootstrap import Bootstrap5

from trusted_service.config import Settings
from trusted_service.web import (
    account,
    admin,
    admin_api,
    api,
    audience,
    audit,
    auth,
    body,
    browser_session,
    cors,
    errors,
    headers,
    health,
    jobs,
    language,
    limits,
    openapi,
    pages,
    refusals,
    request_log,
    usage,
)


def init_app(app: Flask, settings: Settings) -> None:
    """Register everything that answers requests. The order of the hooks matters: log, who, how often."""
    request_log.init_app(app)
    refusals.init_app(app)
    errors.init_app(app)
    headers.init_app(app, settings)
    cors.init_app(app, settings)
    language.init_app(app)
    Bootstrap5(app)
    body.init_app(app)
    audience.init_app(app)
    browser_session.init_app(app)
    app.config["BOOTSTRAP_SERVE_LOCAL"] = True
    limits.init_app(app, settings.rate_limit_storage_uri)
    for blueprint in (
        pages.bp,
        account.bp,
        auth.bp,
        api.bp,
        admin.bp,
        audit.bp,
        usage.bp,
        jobs.bp,
        admin_api.bp,
        health.bp,
        openapi.bp,
    ):
        app.register_blueprint(blueprint)
    audience.require_one_for_each_route(app)
