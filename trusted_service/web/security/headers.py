"""Security headers of every response, and those that let pages of other origins call the API.

https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re

from flask import Flask, Response, request
from flask_cors import CORS

from trusted_service.settings import Settings
from trusted_service.web.http.context import is_api, optional_caller, services

FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# What monitoring adds to the requests of a page: W3C, Application Insights, Zipkin, Sentry, Datadog, Elastic,
# Instana, Dynatrace and CloudWatch RUM.
TRACING = (
    *("traceparent", "tracestate", "baggage", "Request-Id", "Request-Context", "sentry-trace", "newrelic"),
    *("b3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "elastic-apm-traceparent"),
    *("X-INSTANA-T", "X-INSTANA-S", "X-INSTANA-L", "x-dtpc", "X-Amzn-Trace-Id"),
    *(f"X-Datadog-{name}" for name in ("Trace-Id", "Parent-Id", "Origin", "Sampling-Priority", "Tags")),
)
HTTPS_ONLY = {"Strict-Transport-Security": "max-age=63072000; includeSubDomains"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'{entra}; base-uri 'none'; object-src 'none'; frame-ancestors {frame_ancestors}"
)


def init_app(app: Flask, settings: Settings) -> None:
    headers = FIXED | (HTTPS_ONLY if settings.https else {})

    @app.after_request
    def add(response: Response) -> Response:
        response.headers.update(headers)
        is_page = response.mimetype == "text/html"
        # The response to the sign-out form is a redirect to Entra ID, which form-action has to allow too.
        entra = f" {services().authority.sign_out_origin()}" if is_page and optional_caller() else ""
        # Entra ID's sign-out page calls it in a frame. It is empty, so there is nothing to click on.
        is_framed = request.endpoint == "auth.front_channel_logout"
        policy = POLICY.format(entra=entra, frame_ancestors="*" if is_framed else "'none'")
        # A response that is no page must not act as one when a browser navigates to it.
        response.headers["Content-Security-Policy"] = policy if is_page else f"{policy}; sandbox"
        if is_framed:
            del response.headers["X-Frame-Options"]
        if not (request.endpoint or "").endswith("static") or response.status_code >= 400:
            response.headers["Cache-Control"] = "no-store"
        if settings.cors_origins and is_api(request.path):
            response.vary.add("Origin")
        return response

    if not settings.cors_origins:
        return
    CORS(  # their pages may call the API with a bearer token, and never with a cookie
        app,
        resources=re.compile(r"/api(/|\Z)"),
        # As patterns: Flask-CORS compares plain text without regard to letter case.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins],
        methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type", *TRACING),
        # With `Date`, a client can count a token's life down without trusting its own clock.
        expose_headers=("Date", "Retry-After", "WWW-Authenticate", "X-Request-ID"),
        max_age=600,
        supports_credentials=False,
        always_send=False,
        vary_header=False,  # `add` adds it, also to responses to requests without an Origin
        intercept_exceptions=False,  # errors pass through the same hook as every other response
    )
