"""The Flask app of the control routes, with the routes for calls and faults."""

from http import HTTPStatus

from flask import Blueprint, Flask, jsonify
from flask.typing import ResponseReturnValue

from local_azure.control import communication, entra
from local_azure.control.state import Controlled, get_controlled, read_document
from local_azure.faults import Fault

PREFIX = "/control"

bp = Blueprint("control", __name__)


def create_app(controlled: Controlled) -> Flask:
    """Return the app that controls the local Azure."""
    app = Flask("local_azure", static_folder=None)
    app.extensions["controlled"] = controlled
    app.json.sort_keys = False  # type: ignore[attr-defined]  # only the default provider has it
    for blueprint in (bp, entra.bp, communication.bp):
        app.register_blueprint(blueprint, url_prefix=PREFIX)
    app.register_error_handler(ValueError, _handle_value_error)
    return app


@bp.get("/calls")
def show_calls() -> ResponseReturnValue:
    """Show how often each operation was called, and the last calls."""
    return get_controlled().journal.to_json()


@bp.delete("/calls")
def reset_calls() -> ResponseReturnValue:
    """Forget all calls."""
    get_controlled().journal.reset()
    return "", HTTPStatus.NO_CONTENT


@bp.get("/telemetry")
def show_telemetry() -> ResponseReturnValue:
    """Show the envelopes that arrived, oldest first, and the connection string that leads here."""
    ingestion = get_controlled().ingestion
    return {"connectionString": ingestion.connection_string, "envelopes": ingestion.list()}


@bp.delete("/telemetry")
def clear_telemetry() -> ResponseReturnValue:
    """Forget all envelopes."""
    get_controlled().ingestion.clear()
    return "", HTTPStatus.NO_CONTENT


@bp.post("/faults")
def plant_fault() -> ResponseReturnValue:
    """Plant a fault (see `faults.Fault`)."""
    fault = Fault.from_json(read_document())
    get_controlled().faults.plant(fault)
    return fault.to_json(), HTTPStatus.CREATED


@bp.get("/faults")
def show_faults() -> ResponseReturnValue:
    """Show the faults that are still planted."""
    return jsonify(get_controlled().faults.to_json())


@bp.delete("/faults")
def clear_faults() -> ResponseReturnValue:
    """Remove all faults and tamperings, and end hanging calls."""
    controlled = get_controlled()
    controlled.faults.clear()
    controlled.entra.forge.clear()
    return "", HTTPStatus.NO_CONTENT


@bp.get("/storage")
def show_storage() -> ResponseReturnValue:
    """Show the connection strings of the storage account, by its first and by its second key."""
    return {"connectionStrings": get_controlled().azurite.connection_strings}


def _handle_value_error(error: ValueError) -> ResponseReturnValue:
    return {"error": str(error)}, HTTPStatus.BAD_REQUEST
