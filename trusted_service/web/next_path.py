"""Where a person goes after signing in: a page of ours, or home."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from flask import current_app
from werkzeug.exceptions import HTTPException

HOME = "/"
LONGEST = 500
PAGES = ("pages.", "account.", "admin.", "audit.", "jobs.")
# What our own paths are made of: no second slash, no dot segment, no backslash, no escape, nothing to decode.
PATH = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?")


def next_path(values: Sequence[str]) -> str:
    """Return the path, with its query, if it is the one given and leads to a page of ours; else home.

    A page is what answers GET outside of sign-in, the API and static files.
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
    if not endpoint.startswith(PAGES):
        return HOME
    return f"{path}?{urlencode(parse_qsl(query, keep_blank_values=True))}" if query else path
