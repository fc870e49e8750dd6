"""Answers with a CSV file, line by line, whatever its length."""

import itertools
from collections.abc import Iterator

from flask import Response

LINES_AT_ONCE = 200


def csv_response(name: str, lines: Iterator[str]) -> Response:
    """Stream the lines. The first ones are read here, so that a failure to read them is still an answer."""
    chunks = _chunks(lines)
    first = next(chunks, "")
    response = Response(itertools.chain([first], chunks), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    while chunk := "".join(itertools.islice(lines, LINES_AT_ONCE)):
        yield chunk
