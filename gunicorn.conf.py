"""How gunicorn serves this application, with the reason beside each number.

On App Service the startup command is `exec gunicorn -c gunicorn.conf.py wsgi:app`. Without one, App Service
sets GUNICORN_CMD_ARGS, which would override this file. Without `exec`, the shell that starts gunicorn gets
SIGTERM in its place, and gunicorn is killed later with the requests under way.
"""

import os
import resource
import socket
import sys

from flask import Flask
from gunicorn.arbiter import Arbiter
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker

from trusted_service.observability import logs
from trusted_service.server.access_log import withhold_secrets
from trusted_service.settings import Settings, SettingsError

# Bad settings stop the start before there is any worker, with one message that names all of them.
try:
    _settings = Settings.from_env()
except SettingsError as error:
    sys.exit(str(error))
logconfig_dict = logs.logging_config(_settings.log_format)
bind = f"0.0.0.0:{_settings.port}"

# A request waits for upstream calls nearly all of its time. Threads carry that as well as gevent does, with a
# better 99th percentile, and past 64 nothing is gained: the limit is the processor, hence one worker for each
# of two cores.
# Our class of gthread gives a thread only to a request that has arrived, so that no client can hold one.
worker_class = "trusted_service.server.worker.Worker"
workers = _settings.web_concurrency
threads = 64
# A connection costs a file, and so do those to upstreams, of which there are a few for each thread.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = max(_soft, 4096 if _hard == resource.RLIM_INFINITY else min(_hard, 4096))
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _hard))
# Beyond it, those that wait longest without a request are closed.
worker_connections = min(1000, _files // 2)
# Clients and their connection pools are made in the worker, after the fork, so nothing is shared by accident.
preload_app = False
# How long a worker may be unresponsive, not a request; requests end by the clients' own limits within 15 s.
timeout = 30
# A request under way may finish, which takes up to 15 s, and the process may end what it delayed. The host
# must wait longer before it kills (on App Service WEBSITES_CONTAINER_STOP_TIME_LIMIT, by default 5 s).
graceful_timeout = 25
# Longer than App Service's front end keeps idle connections, so that it never sends into a closing one. A
# worker that stops serves them for 6 s more and announces their end. By then, the front end must know.
keepalive = 250
# The heartbeat file on a real disk can stall a worker. gunicorn makes a file of its own in the folder.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 # nosec B108
# What a client does not read waits in the worker (trusted_service/server/connection.py). The kernel, whose
# memory all connections share, keeps little of it.
SEND_BUFFER_BYTES = 64 * 1024
# Its default place is a folder that App Service instances share.
control_socket_disable = True
# The application logs each request itself. Switched on all the same, it holds no secret (`post_fork`).
accesslog = None
# X-Forwarded-* is believed by hop count (TRUSTED_PROXY_HOPS), not by gunicorn.
forwarded_allow_ips = ""
# An authorization code and a state are long; anything longer is not ours.
limit_request_line = 8190
# All cookies stand in one header: that of a session, and about a kilobyte for each tab that is signing in.
limit_request_field_size = 32 * 1024


def _without_server(response: Response) -> list[str]:
    return [header for header in _default_headers(response) if not header.startswith("Server:")]


# There is no setting that keeps the server's name out of responses.
_default_headers = Response.default_headers
Response.default_headers = _without_server


def on_starting(server: Arbiter) -> None:
    if server.cfg.spew:
        sys.exit("--spew would print every secret that the service handles.")


def post_fork(server: Arbiter, worker: Worker) -> None:
    """GUNICORN_CMD_ARGS overrides settings, but no hooks."""
    withhold_secrets(worker.log)


def when_ready(server: Arbiter) -> None:
    """Bound what the kernel keeps for a client. There is no setting for it; connections inherit it."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def post_worker_init(worker: Worker) -> None:
    """Resume jobs that another worker left, and clean up: this worker may get no request for a long time."""
    if isinstance(worker.wsgi, Flask):
        worker.wsgi.extensions["trusted_service"].start(worker.cfg.workers)


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Release jobs and write the last usage counts. Later, by atexit, no thread could be started."""
    application = getattr(worker, "wsgi", None)  # None where it could not be loaded, or is another process's
    if isinstance(application, Flask):
        application.extensions["trusted_service"].close()
    if getattr(worker, "ends_at_once", False):
        os._exit(0)  # Python would wait for threads, which may wait for upstreams
