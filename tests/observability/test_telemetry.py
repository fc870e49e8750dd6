"""Telemetry holds no codes, states or other secrets of addresses."""

from collections.abc import Callable

import pytest
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from tests.support.local_azure import LocalAzure
from tests.support.settings import OWN_SETTINGS
from trusted_service.app import create_app
from trusted_service.observability import telemetry
from trusted_service.settings import Settings


@pytest.fixture
def new_app(azure: LocalAzure, settings: dict[str, str]) -> Callable[[TracerProvider], Flask]:
    def make(provider: TracerProvider) -> Flask:
        with azure.in_environment():
            app = create_app(Settings.from_env(settings | OWN_SETTINGS))
        telemetry.instrument(app, provider)
        return app

    return make


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["on", "off"])
def test_request_succeeds_sampled_or_not(
    new_app: Callable[[TracerProvider], Flask], sampler: Sampler
) -> None:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(telemetry.SafeSpans())
    assert new_app(provider).test_client().get("/healthz").status_code == 200


def test_spans_hold_no_queries_and_unknown_paths(new_app: Callable[[TracerProvider], Flask]) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    for processor in (telemetry.SafeSpans(), SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    app = new_app(provider)
    for address in ("/auth/callback?code=SECRET&state=SECRET", "/SECRET?code=SECRET"):
        app.test_client().get(address)
    call = {"url.full": "https://localhost/?code=SECRET", "url.path": "/", "url.query": "code=SECRET"}
    provider.get_tracer("calls").start_span("POST", attributes=call).end()
    spans = exporter.get_finished_spans()
    assert "SECRET" not in "".join(span.to_json() for span in spans)
    assert [span.name for span in spans] == ["GET /auth/callback", "GET", "POST"]
