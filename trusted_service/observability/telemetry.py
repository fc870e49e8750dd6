"""Sends traces, metrics and logs to Azure Monitor.

https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-configuration?tabs=python
"""

from azure.monitor.opentelemetry import configure_azure_monitor
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind

from trusted_service.models import without_secrets

ADDRESSES = ("http.target", "http.url", "url.full", "url.path", "url.query")


class SafeSpans(SpanProcessor):
    def on_start(self, span: Span, parent_context: object = None) -> None:
        clean(span)


def clean(span: Span | None, *_: object) -> None:
    """Replace the address of a request by its route, and cut the query, hence codes, off that of a call."""
    # A request that was refused early has none, and one that is not sampled has one that holds nothing.
    if span is None or not span.is_recording():
        return
    attributes, is_request = span.attributes or {}, span.kind is SpanKind.SERVER
    route = str(attributes.get("http.route", ""))
    for name in attributes.keys() & ADDRESSES:
        path = without_secrets(str(attributes[name]).partition("?")[0])
        span.set_attribute(name, "" if name == "url.query" else route if is_request else path)
    if is_request:
        span.update_name(f"{span.name.split()[0]} {route}".strip())


def configure(app: Flask, connection_string: str) -> None:
    """Instrument this process and the application. Must come after any fork."""
    configure_azure_monitor(
        connection_string=connection_string,
        logger_name="trusted_service",
        span_processors=[SafeSpans()],
        enable_live_metrics=False,
        # The class Flask is imported by now: the application is instrumented by itself instead.
        instrumentation_options={"flask": {"enabled": False}},
    )
    instrument(app)


def instrument(app: Flask, provider: TracerProvider | None = None) -> None:
    """Record a span for each request, and clean it again: after its start, its whole address is set again."""
    FlaskInstrumentor().instrument_app(app, response_hook=clean, tracer_provider=provider)  # type: ignore[no-untyped-call]
