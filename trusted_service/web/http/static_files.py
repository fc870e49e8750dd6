"""Static files. A URL with the hash of the content may be kept; without it, a browser asks each time."""

import functools
import hashlib
import os
from importlib.resources import files
from typing import Any

from flask import Flask, Response, request, send_from_directory
from werkzeug.security import safe_join

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

    def find_hash(endpoint: str | None, values: dict[str, Any]) -> str | None:
        folder, name = app.static_folder or "", values.get("filename", "")
        if endpoint not in ("static", "bootstrap.static"):
            return None
        path = safe_join(folder, name) if endpoint == "static" else f"{STYLESHEETS}/{BOOTSTRAP}"
        return _hash(path, os.stat(path).st_mtime_ns) if path and os.path.isfile(path) else None

    @app.url_defaults
    def add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if found := find_hash(endpoint, values):
            values["v"] = found

    @app.after_request
    def keep(response: Response) -> Response:
        wanted = request.args.get("v")
        # Not with the hash of another version, which another instance may serve during a deployment.
        if (
            wanted
            and response.status_code < 400
            and wanted == find_hash(request.endpoint, request.view_args or {})
        ):
            response.headers["Cache-Control"] = FOR_A_YEAR
        return response


@functools.lru_cache
def _hash(path: str, _changed_at: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
