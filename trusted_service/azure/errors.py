"""Bounds a call of an Azure SDK by its deadline, and translates the SDK's errors into the domain's."""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socket import gaierror

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

from trusted_service.azure import deadlines
from trusted_service.errors import (
    ManagedIdentityFailed,
    Upstream,
    UpstreamError,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from trusted_service.texts import display_text

THROTTLING_CODES = ("ServerBusy", "TooManyRequests")
IDS = ("x-ms-request-id", "ms-cv")
"""Headers by which Microsoft's support finds a call."""


@contextmanager
def azure_call(service: Upstream, *, expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises UpstreamThrottled or UpstreamUnavailable for every failure but those in `expected`."""
    try:
        with deadlines.call(service) as call:
            yield
    except expected:
        raise
    except deadlines.NotSent as error:
        raise UpstreamUnavailable(service, str(error)) from error
    except ManagedIdentityFailed as error:
        raise UpstreamUnavailable(service, f"managed identity: {error}") from error
    except HttpResponseError as error:
        raise refusal(service, error) from error
    except (AzureError, requests.RequestException, ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error, ServiceRequestError) and not call.sockets:
            # No request was sent in full.
            raise UpstreamUnavailable(service, f"not reachable: {network_reason(error)}") from error
        # No response, or one that the SDK cannot read: it then fails in whatever way its parsing does, and if
        # the response to a transaction breaks off, with an exception of its transport.
        name = type(error).__name__
        raise UpstreamUnavailable(service, name, outcome_unknown=True, responded=False) from error


def error_code(error: HttpResponseError) -> str:
    """Return the service's own error code, or an empty string."""
    code = getattr(error.response, "headers", {}).get("x-ms-error-code")
    code = code or body_code(error) or getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))  # the storage's SDK has an enumeration


def body_code(error: HttpResponseError) -> str:
    """The code in the body of the response, `{"error": {"code": …}}`, or an empty string."""
    return str(getattr(error.error, "code", None) or "")


def refusal(service: Upstream, error: HttpResponseError) -> UpstreamError:
    """The domain's error for a response that refuses a call. After a 5xx the work may have been done."""
    status, code = error.status_code or 0, error_code(error)
    retry_after = getattr(error.response, "headers", {}).get("Retry-After")
    reason = display_text(f"HTTP {status} {code}")
    kind = UpstreamThrottled if status == 429 or code in THROTTLING_CODES else UpstreamUnavailable
    unknown = not 400 <= status < 500
    return kind(service, reason, retry_after, outcome_unknown=unknown, details=support_ids(error))


def support_ids(error: HttpResponseError) -> Mapping[str, str]:
    """The ids of the refused call, for the log."""
    headers = getattr(error.response, "headers", {})
    found = {name.replace("-", "_"): str(headers.get(name)) for name in IDS if headers.get(name)}
    return {name: value for name, value in found.items() if re.fullmatch(r"[A-Za-z0-9+/.-]{8,64}", value)}


def network_reason(error: BaseException) -> str:
    """What the network refused, in words that hold no address and no secret, as exceptions' texts do."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLCertVerificationError():
                return f"TLS: {display_text(cause.verify_message, 100)}"
            case ssl.SSLError():
                return f"TLS: {display_text(cause.reason, 100)}"
            case gaierror():
                return "the name is not known"
            case ConnectionRefusedError():
                return "connection refused"
            case TimeoutError():
                return "no response in time"
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause.__context__
    return type(error).__name__
