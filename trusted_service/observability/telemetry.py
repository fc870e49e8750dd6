"""Sends traces, metrics and logs to Azure Monitor.

https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-configuration?tabs=python
"""

from azure.monitor.opentelemetry import configure_azure_monitor
from flask import Flask
from opentelemetry.context import Context
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import Span, SpanProcessor

from trusted_service.observability.logs import without_secrets


class _WithoutQuery(SpanProcessor):
    """Instrumentations record addresses with their queries, hence with codes and states."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name in ("http.target", "http.url", "url.full", "url.query"):
            value = (span.attributes or {}).get(name)
            if isinstance(value, str):
                path = without_secrets(value.partition("?")[0])
                span.set_attribute(name, "" if name == "url.query" else path)


def configure(app: Flask, connection_string: str) -> None:
    """Instrument this process and the application. Must come after any fork."""
    configure_azure_monitor(
        connection_string=connection_string,
        logger_name="trusted_service",
        span_processors=[_WithoutQuery()],
        enable_live_metrics=False,
        # The class Flask is imported by now: the application is instrumented by itself instead.
        instrumentation_options={"flask": {"enabled": False}},
    )
    FlaskInstrumentor().instrument_app(app)  # type: ignore[no-untyped-call]
