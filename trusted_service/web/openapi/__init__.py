"""The description of the API, for programs and for people."""

import re

from flask import Blueprint, Response, jsonify, render_template
from markupsafe import Markup, escape

from trusted_service.web.audience import public, visitor
from trusted_service.web.context import services
from trusted_service.web.openapi.document import openapi_document
from trusted_service.web.openapi.reading import chapters, members

bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
@public
def openapi() -> Response:
    """The description as OpenAPI 3.1."""
    return jsonify(openapi_document(services().settings))


@bp.get("/docs")
@visitor
def docs() -> str:
    """The same to read. For anybody; whoever is signed in finds the way back to the other pages."""
    document = openapi_document(services().settings)
    return render_template(
        "openapi/docs.html", document=document, chapters=chapters(document), members=members(document)
    )


@bp.app_template_filter()
def code_spans(text: str) -> Markup:
    """The text with what stands between backticks as code; descriptions are Markdown as far as that."""
    words, span = escape(text), Markup(r"<code>\1</code>")
    return Markup(re.sub("`([^`]+)`", span, words))  # noqa: S704 # nosec B704 # escaped
