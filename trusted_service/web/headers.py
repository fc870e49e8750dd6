"""Headers that every answer carries, so that browsers help to keep it safe.

https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
"""

from flask import Flask, Response, request

from trusted_service.config import Settings
from trusted_service.web.context import optional_caller, services

FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

FRAMED = ("auth.front_channel_logout",)
"""Entra ID's sign-out page calls these in a frame. They are empty: nobody can be lured into clicking."""


def init_app(app: Flask, settings: Settings) -> None:
    app.after_request(_add)
    if settings.https:
        app.after_request(_add_transport_security)


def _add(response: Response) -> Response:
    response.headers.update(FIXED)
    response.headers["Content-Security-Policy"] = _content_security_policy(response)
    if request.endpoint in FRAMED:
        del response.headers["X-Frame-Options"]
    if not (request.endpoint or "").endswith("static") or response.status_code >= 400:
        response.headers["Cache-Control"] = "no-store"
    return response


def _add_transport_security(response: Response) -> Response:
    response.headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    return response


def _content_security_policy(response: Response) -> str:
    form_action = "'self'"
    if response.mimetype == "text/html" and optional_caller() is not None:
        # The sign-out form is answered with a redirect to Entra ID, which form-action has to allow too.
        form_action += f" {services().entra.sign_out_origin()}"
    frame_ancestors = "*" if request.endpoint in FRAMED else "'none'"
    # What is no page has no business as one, whoever leads a browser there.
    sandbox = "" if response.mimetype == "text/html" else "; sandbox"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"form-action {form_action}; base-uri 'none'; object-src 'none'; "
        f"frame-ancestors {frame_ancestors}{sandbox}"
    )
