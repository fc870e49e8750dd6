"""Counts refusals: answers with 401, 403 or 429 by the API or the sign-in.

It looks at answers as they leave, whoever refused: a route that is added later is counted too.
"""

from http import HTTPStatus

from flask import Flask, Response, request

from trusted_service.usage import REFUSAL
from trusted_service.web.context import services
from trusted_service.web.problem import is_api

STATUSES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)


def init_app(app: Flask) -> None:
    app.after_request(_count)


def _count(response: Response) -> Response:
    if response.status_code in STATUSES and (is_api(request.path) or request.blueprint == "auth"):
        services().usage.count(REFUSAL)
    return response
