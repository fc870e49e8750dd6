"""The ingestion endpoint of Application Insights: takes telemetry, and keeps it for the control routes.

The format is that of the exporters' own client (`/v2.1/track`, a JSON array or a line for each envelope).
"""

import gzip
import json
import threading
import uuid
from collections import deque

from flask import Flask, request
from flask.typing import ResponseReturnValue

from local_azure.faults import Faults
from local_azure.journal import Journal
from local_azure.watch import Watch

MAX_ENVELOPES = 50_000


class Ingestion:
    """The envelopes that arrived, oldest first."""

    def __init__(self, origin: str) -> None:
        # A new one each time: exporters keep on disk, by key, what they could not send.
        self.key = str(uuid.uuid4())
        self.connection_string = f"InstrumentationKey={self.key};IngestionEndpoint={origin}/"
        self._lock = threading.Lock()
        self._envelopes: deque[object] = deque(maxlen=MAX_ENVELOPES)

    def add(self, envelopes: list[object]) -> None:
        with self._lock:
            self._envelopes.extend(envelopes)

    def list(self) -> list[object]:
        with self._lock:
            return [*self._envelopes]

    def clear(self) -> None:
        with self._lock:
            self._envelopes.clear()


def create_app(ingestion: Ingestion, journal: Journal, faults: Faults) -> Flask:
    """Return the app that fills `ingestion`."""
    app = Flask("local_azure", static_folder=None)
    Watch("ingestion", journal, faults, _make_fault_body).install(app)

    @app.post("/v2.1/track")
    def track() -> ResponseReturnValue:
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        envelopes = _read_envelopes(body.decode())
        own = [envelope for envelope in envelopes if envelope.get("iKey") == ingestion.key]
        ingestion.add([*own])
        errors = [
            {"index": index, "statusCode": 400, "message": "Invalid instrumentation key"}
            for index, envelope in enumerate(envelopes)
            if envelope not in own
        ]
        accepted = {"itemsReceived": len(envelopes), "itemsAccepted": len(own), "errors": errors}
        return accepted, 206 if errors else 200

    return app


def _read_envelopes(text: str) -> list[dict[str, object]]:
    """Raises ValueError."""
    found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    return list(found)


def _make_fault_body(status: int, code: str) -> dict[str, object]:
    return {"itemsReceived": 1, "itemsAccepted": 0, "errors": [{"statusCode": status, "message": code}]}
