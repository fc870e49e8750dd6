"""Entra ID's errors: AADSTS codes with the texts of the real service, as JSON, redirect or page.

The codes are listed at learn.microsoft.com/entra/identity-platform/reference-error-codes.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus


class EntraError(Exception):
    """A refused request: `error` is the OAuth code, `code` the AADSTS number."""

    def __init__(
        self, error: str, code: int, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        """Refuse with a message that may be shown."""
        super().__init__(f"AADSTS{code}: {message}")
        self.error = error
        self.code = code
        self.status = status

    def to_json(self) -> dict[str, object]:
        """Return the body of the token endpoint's error response."""
        return make_error_body(self.error, str(self), self.code)

    def to_redirect(self) -> dict[str, str]:
        """Return the parameters of the redirect (RFC 6749, section 4.1.2.1)."""
        body = make_error_body(self.error, str(self), self.code)
        return {"error": self.error, "error_description": str(body["error_description"])}


class PageError(EntraError):
    """An error shown to the user, because the redirect URI is not trusted or must not receive it."""

    def __init__(self, code: int, message: str) -> None:
        """Show AADSTS`code` and the message."""
        super().__init__("invalid_request", code, message)


def make_error_body(error: str, description: str, code: int) -> dict[str, object]:
    """Return an error in the JSON form of the token endpoint, with fresh ids, in the description too."""
    trace, correlation, time = uuid.uuid4(), uuid.uuid4(), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
    return {
        "error": error,
        "error_description": (
            f"{description} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}"
        ),
        "error_codes": [code],
        "timestamp": time,
        "trace_id": str(trace),
        "correlation_id": str(correlation),
    }


def make_fault_body(status: int, code: str) -> dict[str, object]:
    """Return the body of a planted fault."""
    error = "temporarily_unavailable" if status in {429, 503} else "server_error"
    number = re.search(r"\d+", code)
    return make_error_body(
        error if number else code, f"{code}: planted, status {status}", int(number[0]) if number else 90033
    )


def get_parameter(parameters: Mapping[str, str], name: str) -> str:
    """Return a parameter. Raises EntraError AADSTS900144 if it is missing or empty."""
    value = parameters.get(name, "")
    if not value:
        raise EntraError(
            "invalid_request",
            900144,
            f"The request body must contain the following parameter: '{name}'.",
        )
    return value
