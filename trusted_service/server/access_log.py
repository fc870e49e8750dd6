"""gunicorn's access log without secrets, whatever logger, format and file it is told to use."""

from types import SimpleNamespace
from typing import Any

KEPT = ("REQUEST_METHOD", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT")


def withhold_secrets(logger: Any) -> None:
    """Give the logger of this process only what holds no query, header or cookie of a request.

    Its own class, and the format of its lines, can be changed by GUNICORN_CMD_ARGS; this cannot.
    """
    write = logger.access

    def access(response: Any, request: Any, environ: dict[str, Any], duration: Any) -> None:
        # A path that no route has can be anything that a client holds.
        known = int(str(response.status).split()[0]) < 400
        path = str(environ.get("PATH_INFO", "-")) if known else "-"
        kept = {name: str(environ.get(name, "-")) for name in KEPT}
        kept |= {"PATH_INFO": path, "RAW_URI": path, "QUERY_STRING": ""}
        address = {"uri": path, "path": path, "query": "", "fragment": "", "version": (1, 1)}
        asked = SimpleNamespace(method=kept["REQUEST_METHOD"], headers=[], **address)
        sent = SimpleNamespace(status=response.status, headers=[], sent=getattr(response, "sent", None))
        write(sent, asked, kept, duration)

    logger.access = access
