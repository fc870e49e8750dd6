"""The state of a sign-in while the browser is at Entra ID: an encrypted cookie each, so tabs may overlap."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Literal, TypedDict
from urllib.parse import parse_qsl, urlencode

from cryptography.fernet import InvalidToken
from flask import after_this_request, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from trusted_service.entra.sign_in import Flow
from trusted_service.errors import SignInFailed
from trusted_service.web.security.audiences import Audience, audience_of
from trusted_service.web.security.signing import decrypt, encrypt

Purpose = Literal["sign-in", "teams"]
"""To sign in, or to get a token for Teams for a user who is signed in."""
MAX_FLOWS, MAX_AGE_SECONDS = 10, 600
HOME, SIGN_IN, MAX_PATH_LENGTH = "/", "/auth/sign-in", 500
# The paths of this site: no second slash, no dot segment, no backslash, no escape, nothing to decode.
PATH = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?")


class KeptFlow(TypedDict):
    """A flow, its purpose, and the path to go to afterwards."""

    flow: Flow
    purpose: Purpose
    next: str


def keep(response: Response, kept: KeptFlow) -> None:
    """Keep the flow in a cookie; the oldest are deleted when there are more than `MAX_FLOWS`."""
    attributes = current_app.config["COOKIE_ATTRIBUTES"]
    names = sorted((name for name in request.cookies if name.startswith(_name())), key=_started_at)
    for name in names[: -(MAX_FLOWS - 1)]:
        response.delete_cookie(name, **attributes)
    value = encrypt("sign-in", json.dumps(kept))
    response.set_cookie(_name(kept["flow"]["state"]), value, max_age=MAX_AGE_SECONDS, **attributes)


def flow_name(state: str) -> str:
    """The name of the flow with this state, which it does not reveal."""
    return hashlib.sha256(state.encode(errors="replace")).hexdigest()[:16]


def take(state: str) -> KeptFlow:
    """Return the flow of this state, and delete its cookie. Raises SignInFailed without one."""
    name = _name(state)

    @after_this_request
    def forget(response: Response) -> Response:
        if name in request.cookies:
            response.delete_cookie(name, **current_app.config["COOKIE_ATTRIBUTES"])
        return response

    try:
        text, _at = decrypt("sign-in", request.cookies.get(name, ""), MAX_AGE_SECONDS)
    except InvalidToken as error:
        raise SignInFailed("no-flow", cause="no-flow") from error
    kept: KeptFlow = json.loads(text)
    if kept["flow"]["state"] != state:
        raise SignInFailed("state")
    return kept


def next_path(values: Sequence[str]) -> str:
    """Return the path, with its query, if it is the only value and leads to a page; else HOME."""
    if len(values) != 1 or len(values[0]) > MAX_PATH_LENGTH:
        return HOME
    path, _, query = values[0].partition("?")
    if not _is_page(path) or not query.isprintable():
        return HOME
    return f"{path}?{urlencode(parse_qsl(query, keep_blank_values=True))}" if query else path


def find_page(path: str) -> str | None:
    """The page that is meant by the path of none: by /admin, or by a page's path with a slash at its end."""
    page = path.removesuffix("/")
    page = {"/admin": "/admin/users"}.get(page, page)
    return page if page not in (path, HOME) and (_is_page(page) or page == SIGN_IN) else None


def _is_page(path: str) -> bool:
    """Whether this is a page: it takes GET, looks up its caller, and is part of neither sign-in nor API."""
    if not PATH.fullmatch(path) or path.startswith(("/auth/", "/api/")):
        return False
    try:
        endpoint, _arguments = current_app.url_map.bind("").match(path, method="GET")
    except HTTPException:
        return False
    return audience_of(current_app.view_functions[endpoint]) is not Audience.PUBLIC


def _name(state: str = "") -> str:
    """The name of the cookie for this state, or the beginning of every name."""
    return f"{current_app.config['COOKIE_PREFIX']}sign-in-{flow_name(state) if state else ''}"


def _started_at(name: str) -> int:
    """When the sign-in of this cookie began; 0 if it is not valid."""
    try:
        return decrypt("sign-in", request.cookies[name], MAX_AGE_SECONDS)[1]
    except InvalidToken:
        return 0
