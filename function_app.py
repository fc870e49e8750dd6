"""The service as an Azure Function: one function for every route, and a timer for periodic work.

The level is anonymous because the service checks its callers itself. A function key says which program calls,
at best, never which user; a browser cannot keep it, and Entra ID's redirects do not carry it.
"""

import time
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import azure.functions as func
import structlog

from trusted_service.errors import UpstreamError
from trusted_service.services import Services
from wsgi import app as service

WORK_SECONDS, TICK_SECONDS = 240.0, 1.0
"""The first is below host.json's functionTimeout, which ends the whole process."""

log = structlog.get_logger(__name__)


class Adapter(func.WsgiMiddleware):
    """Passes on every response. The base class raises an exception instead of one with status 500 or more."""

    def _handle_errors(self, wsgi_response: object) -> None:
        """Nothing is an error: 503 has its problem and its Retry-After."""


def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond with the whole body at once; the adapter would not close it, which starts background tasks."""
    body = service(environ, start_response)
    try:
        return [b"".join(body)]
    finally:
        if hasattr(body, "close"):
            body.close()


services: Services = service.extensions["trusted_service"]
if not services.settings.trusted_proxy_hops:
    log.warning("settings_warning", reason="TRUSTED_PROXY_HOPS is 0: all callers count as one address")
services.start()

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
adapter = Adapter(respond)  # type: ignore[no-untyped-call]


@app.function_name("http")
@app.route(route="{*route}", methods=list(func.HttpMethod))
def handle(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Respond to a request."""
    response: func.HttpResponse = adapter.handle(req, context)
    return response


@app.function_name("work")
@app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
def work(timer: func.TimerRequest) -> None:
    """Keep an instance awake while a task is due or a job open, for up to WORK_SECONDS.

    The tasks run in threads, as under gunicorn. The host may stop a process while it calls no function.
    """
    ends = time.monotonic() + WORK_SECONDS
    while time.monotonic() < ends:
        time.sleep(TICK_SECONDS)
        try:
            if services.background.is_idle() and not services.jobs.list_open():
                return
        except UpstreamError as error:
            log.warning("background_task_failed", reason=str(error))
            return
