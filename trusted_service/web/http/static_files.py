"""Static files. A URL with the hash of the content may be kept; without it, a browser asks each time."""

import functools
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from flask import Flask, Response, make_response, request, send_from_directory

FOR_A_YEAR = "public, max-age=31536000, immutable"
# Pages use one file of the package. Others have up to a megabyte, which strangers should not ask for.
STYLESHEETS, BOOTSTRAP = str(files("flask_bootstrap") / "static/bootstrap5/css"), "bootstrap.min.css"


def init_app(app: Flask) -> None:
    """Add the hash to each URL that is built. A script that another one imports would need it too."""
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0
    app.add_url_rule(
        f"/bootstrap/static/css/{BOOTSTRAP}",
        "bootstrap.static",
        lambda: send_from_directory(STYLESHEETS, BOOTSTRAP),
    )
    hashes = dict[tuple[str, str | None], str]()
    hashes["bootstrap.static", None] = _hash(Path(STYLESHEETS, BOOTSTRAP))
    for path in Path(app.static_folder or "").glob("*.*"):
        hashes["static", path.name] = _hash(path)

    @app.url_defaults
    def add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if found := hashes.get((endpoint, values.get("filename"))):
            values["v"] = found

    def with_age(view: Callable[..., Any]) -> Callable[..., Response]:
        @functools.wraps(view)
        def send(**values: str) -> Response:
            response = make_response(view(**values))
            found = hashes.get((str(request.endpoint), values.get("filename")))
            # Not with the hash of another version, which another instance may serve during a deployment.
            if found and found == request.args.get("v") and response.status_code < 400:
                response.headers["Cache-Control"] = FOR_A_YEAR
            return response

        return send

    for endpoint in ("static", "bootstrap.static"):
        app.view_functions[endpoint] = with_age(app.view_functions[endpoint])


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
