"""Where a person goes after signing in: a page of ours, or home."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from flask import current_app
from werkzeug.exceptions import HTTPException

from trusted_service.web.audience import Audience, audience_of

HOME = "/"
LONGEST = 500
NO_PAGES = ("/auth/", "/api/")
# What our own paths are made of: no second slash, no dot segment, no backslash, no escape, nothing to decode.
PATH = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?")


def next_path(values: Sequence[str]) -> str:
    """Return the path, with its query, if it is the one given and leads to a page of ours; else home.

    A page is what answers GET and asks who is calling, outside of sign-in and the API.
    """
    if len(values) != 1 or len(values[0]) > LONGEST:
        return HOME
    path, _, query = values[0].partition("?")
    if not PATH.fullmatch(path) or not query.isprintable():
        return HOME
    try:
        endpoint, _arguments = current_app.url_map.bind("").match(path, method="GET")
    except HTTPException:
        return HOME
    audience = audience_of(current_app.view_functions[endpoint])
    if audience is Audience.PUBLIC or path.startswith(NO_PAGES):
        return HOME
    return f"{path}?{urlencode(parse_qsl(query, keep_blank_values=True))}" if query else path
