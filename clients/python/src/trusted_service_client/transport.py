"""Sends one request to the service, and returns its JSON or the error."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from trusted_service_client.errors import TokenRequestError

# The service responds within 15 s, whatever its upstreams do.
TIMEOUT_SECONDS = 30


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
            return _read_error(error)
    except (OSError, HTTPException) as error:
        return TokenRequestError(f"The service did not respond: {type(error).__name__}")
    members = _parse_object(text)
    if members is None:
        return TokenRequestError(
            f"{status}: the response is not from the service",
            status=status,
            request_id=headers["X-Request-ID"],
        )
    return members


def _read_error(error: HTTPError) -> TokenRequestError:
    try:
        members = _parse_object(error.read()) or {}
    except (OSError, HTTPException):
        members = {}
    code, detail = members.get("code"), members.get("detail", "the response is not from the service")
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
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    at = _parse_date(value)
    if at is None:
        return None
    # By the server's clock if possible, because this computer's may be wrong.
    now = _parse_date(headers["Date"] or "") or datetime.now(timezone.utc)
    return max(0.0, (at - now).total_seconds())


def _parse_date(value: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)
