"""Bounds a call of an Azure SDK by its deadline, and translates the SDK's errors into the domain's."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

from trusted_service.azure import deadlines
from trusted_service.errors import Upstream, UpstreamError, UpstreamThrottled, UpstreamUnavailable
from trusted_service.models import display_text

THROTTLING_CODES = ("ServerBusy", "TooManyRequests")


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
    except HttpResponseError as error:
        raise refusal(service, error) from error
    except (AzureError, requests.RequestException, ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error, ServiceRequestError) and not call.sockets:
            raise UpstreamUnavailable(service, "not reachable") from error  # no request was sent in full
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
    return kind(service, reason, retry_after, outcome_unknown=not 400 <= status < 500)
