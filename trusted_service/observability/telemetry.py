"""Sends spans, metrics and logs to Azure Monitor.

https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-configuration?tabs=python
"""

import logging
import os

from azure.monitor.opentelemetry import configure_azure_monitor
from opentelemetry.sdk.resources import Resource

from trusted_service.models import without_secrets

PERSONAL = ("client", "detail")
"""Fields of log lines that stay here: addresses, and what administrators write about people."""
SENT = "telemetry"
LIBRARIES = ("azure_sdk", "django", "fastapi", "flask", "httpx", "psycopg2", "requests", "urllib", "urllib3")
SECONDS = 2.0
ENVIRONMENT = {
    # Nothing is sent elsewhere: no statistics about the SDK, no request for remote settings.
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    # The other detector asks the metadata service of a virtual machine, and waits for it.
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "azure_app_service",
    # The default keeps five a second, and little of what comes in a burst.
    "OTEL_TRACES_SAMPLER": "always_on",
}


class SafeHandler(logging.Handler):
    """Sends lines without secrets, personal data and texts of exceptions, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg in ("request", "authn_token_created"):
            return  # spans and metrics tell them: of a warm token, two of five items
        # An operator's is the name of an account, others' a key.
        personal = (*PERSONAL, "actor") if vars(record).get("actor_kind") == "operator" else PERSONAL
        fields = {
            name: without_secrets(value) if isinstance(value, str) else value
            for name, value in vars(record).items()
            if name not in personal
        }
        if record.exc_info:
            kind, _, trace = record.exc_info
            fields["exc_info"] = kind, Exception(), trace  # no text, and none of its causes
        logging.getLogger(SENT).handle(logging.makeLogRecord(fields))


def configure(connection_string: str) -> None:
    """Start to send what this process records. Must come after any fork."""
    # The exporter reads the variable, too, and refuses forms of it that we understand.
    os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"] = connection_string
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Not the name of the site, as App Service would have it: queries and alerts are the same everywhere.
    role = os.environ.get("OTEL_SERVICE_NAME") or "trusted-service"
    configure_azure_monitor(
        connection_string=connection_string,
        logger_name=SENT,
        resource=Resource({"service.name": role}),
        enable_live_metrics=False,
        # What cannot be sent at once is kept on disk and sent later, and an end need not wait.
        retry_total=0,
        read_timeout=SECONDS,
        timeout=SECONDS,
        # See `signals`.
        instrumentation_options={name: {"enabled": False} for name in LIBRARIES},
    )
    logging.getLogger(SENT).propagate = False
    logging.getLogger("trusted_service").addHandler(SafeHandler())
