"""Runs a call of an Azure SDK: within its time, and with the SDK's errors put in the domain's words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

from trusted_service import upstream
from trusted_service.errors import Upstream, UpstreamThrottled, UpstreamUnavailable

THROTTLING_CODES = ("ServerBusy", "TooManyRequests")


@contextmanager
def azure_call(service: Upstream, *, expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises UpstreamThrottled or UpstreamUnavailable for every failure but those in `expected`."""
    try:
        with upstream.call(service):
            yield
    except expected:
        raise
    except upstream.NotSent as error:
        raise UpstreamUnavailable(service, str(error)) from error
    except HttpResponseError as error:
        raise _refusal(service, error) from error
    except ServiceRequestError as error:
        raise UpstreamUnavailable(service, "not reachable") from error
    except (AzureError, requests.RequestException, ValueError, TypeError, AttributeError, KeyError) as error:
        # No response, or one that the SDK cannot read: it then fails in whatever way its parsing does, and
        # where a transaction's response breaks off, with an exception of its transport.
        raise UpstreamUnavailable(
            service, type(error).__name__, outcome_unknown=True, responded=False
        ) from error


def error_code(error: HttpResponseError) -> str:
    """The service's own code for what went wrong, or an empty string.

    https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2
    """
    code = _headers(error).get("x-ms-error-code")
    return code or body_code(error) or str(getattr(error, "error_code", None) or "")


def body_code(error: HttpResponseError) -> str:
    """The code of `{"error": {"code": …}}` in the response's body, or an empty string."""
    return str(getattr(error.error, "code", None) or "")


def _headers(error: HttpResponseError) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    return headers


def _refusal(service: Upstream, error: HttpResponseError) -> UpstreamThrottled | UpstreamUnavailable:
    status, code = error.status_code or 0, error_code(error)
    retry_after = _headers(error).get("Retry-After")
    reason = f"HTTP {status} {code}".strip()
    if status == 429 or code in THROTTLING_CODES:
        return UpstreamThrottled(service, reason, retry_after)
    return UpstreamUnavailable(service, reason, retry_after, outcome_unknown=not 400 <= status < 500)
