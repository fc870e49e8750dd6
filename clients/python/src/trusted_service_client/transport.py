"""Sends one request to the service, and returns its JSON or the error."""

from __future__ import annotations

import json
import re
import ssl
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from trusted_service_client.errors import TokenRequestError

# The service responds within 15 s, whatever its upstreams do.
TIMEOUT_SECONDS = 30
# Of the service, or of a front end while an instance restarts. Repeating a request for a token is safe.
TEMPORARY = (408, 425, 429, 502, 503, 504)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Treat redirects as errors: the API never redirects."""


_opener = build_opener(_NoRedirects)


def send(request: Request) -> dict[str, Any] | TokenRequestError:
    """Return the members of a successful response, or the error; the caller decides whether to retry."""
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            status, headers, text = response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            return _read_error(error, request.full_url)
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        why = str(cause) or type(cause).__name__
        problem = TokenRequestError(f"The service at {request.full_url} did not respond: {why}")
        problem.__cause__ = cause if isinstance(cause, Exception) else error
        return problem
    members = _parse_object(text)
    if members is None:
        return TokenRequestError(
            f"{status}: {describe_stranger(request.full_url)}",
            status=status,
            request_id=headers["X-Request-ID"],
        )
    return members


def is_temporary(error: TokenRequestError) -> bool:
    """Tell whether the same request may succeed soon: not with a wrong certificate, or without TLS."""
    if error.status is not None:
        return error.status in TEMPORARY
    cause = error.__cause__
    return not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError)


def describe_stranger(url: str, target: str | None = None) -> str:
    """Describe a response that another site sent. The rest of a redirect's target may hold a state."""
    to = f" but redirects to {re.split('[?#]', target)[0]}" if target else ""
    return f"the response of {url} is not from the service{to}: is service_url right?"


def _read_error(error: HTTPError, url: str) -> TokenRequestError:
    try:
        members = _parse_object(error.read()) or {}
    except (OSError, HTTPException):
        members = {}
    code = members.get("code")
    detail = members.get("detail") if code else None
    if not detail and error.code in TEMPORARY:
        detail = f"a front end answers with this status at {url}, not the service, which may be restarting"
    detail = detail or describe_stranger(url, error.headers["Location"])
    return TokenRequestError(
        f"{error.code} {code}: {detail}" if code else f"{error.code}: {detail}",
        status=error.code,
        code=code,
        request_id=members.get("requestId", error.headers["X-Request-ID"]),
        retry_after=_read_retry_after(error.headers),
    )


def _parse_object(text: bytes) -> dict[str, Any] | None:
    # An error from a proxy may be an HTML page.
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _read_retry_after(headers: Message) -> float | None:
    """In seconds; None if the header is missing or malformed: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3"""
    value = (headers["Retry-After"] or "").strip()
    number = re.match(r"[\s,]*([0-9]+)\s*(,|$)", value)  # the first one, if a proxy joined two headers
    if number:
        return float(number[1])
    at = _parse_date(value)
    if at is None:
        return None
    # By the server's clock if possible, because this computer's may be wrong.
    now = _parse_date(headers["Date"] or "") or datetime.now(timezone.utc)
    return max(0.0, (at - now).total_seconds())


def _parse_date(value: str) -> datetime | None:
    if not value.rstrip().endswith(" GMT"):
        return None
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)
