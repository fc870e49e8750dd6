"""The codes that the API responds with, and what each one means."""

from trusted_service.web.i18n import mark_for_translation as _

NOT_AVAILABLE = _("A service that we depend on is not available right now. Please try again in a moment.")
PROBLEMS = {
    "invalid_request": (400, _("The request is malformed.")),
    "sign_in_failed": (400, _("This sign-in could not be completed. Please start again.")),
    "not_signed_in": (401, _("You are not signed in, or your session has ended.")),
    "invalid_token": (401, _("The bearer token is not valid.")),
    "forbidden": (403, _("Only administrators may do this.")),
    "csrf_failed": (
        403,
        _("This page is from an earlier session, or not our own. Open it again and repeat what you did."),
    ),
    "blocked": (403, _("An administrator has blocked your access.")),
    "insufficient_scope": (403, _("The token does not carry our scope.")),
    "not_found": (404, _("There is nothing at this address.")),
    "method_not_allowed": (405, _("This address does not allow that method.")),
    "conflict": (409, _("This cannot be done as things are now.")),
    "too_large": (413, _("The request is too large.")),
    "unsupported_media_type": (415, _("The request body must be JSON.")),
    "rate_limited": (429, _("Too many requests. Please wait a moment.")),
    "internal_error": (500, _("Something went wrong on our side.")),
    "upstream_unavailable": (503, NOT_AVAILABLE),
    "upstream_throttled": (503, NOT_AVAILABLE),
}
"""The status of each code, and its default sentence for people."""
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    405: {"Allow": ""},
    429: {"Retry-After": ""},
    503: {"Retry-After": "5"},
}
"""The headers of each status; the error handlers set the value of an empty one."""
