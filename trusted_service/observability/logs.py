"""One line for each event: JSON for machines, or `key=value` text for a person on a laptop.

Security events: https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html
"""

import logging.config
from typing import Any, Literal

import structlog
from structlog.typing import Processor

from trusted_service.observability import signals

LogFormat = Literal["json", "text"]

SILENCED = ("msal", "azure", "urllib3", "werkzeug")
"""Their messages can hold codes, tokens and whole requests and responses."""


def configure(log_format: LogFormat) -> None:
    """Send structlog's and the standard library's records to standard error in this format."""
    structlog.configure(
        # Records with plain attributes, which Azure Monitor's handler understands too.
        processors=[
            structlog.contextvars.merge_contextvars,
            signals.count_event,
            structlog.stdlib.render_to_log_kwargs,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(logging_config(log_format))


def logging_config(log_format: LogFormat) -> dict[str, Any]:
    """The same for the standard library alone, as `logging.config.dictConfig` and gunicorn take it."""
    gunicorn = {"level": "INFO", "handlers": [], "propagate": True}
    console = {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": _formatter, "log_format": log_format}},
        "handlers": {"console": console},
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {"gunicorn.error": gunicorn} | {name: {"level": "CRITICAL"} for name in SILENCED},
    }


def _formatter(log_format: LogFormat) -> structlog.stdlib.ProcessorFormatter:
    renderer: Processor = structlog.processors.JSONRenderer()
    if log_format == "text":
        renderer = structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            signals.add_trace_ids,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            signals.strip_request_target,
            structlog.processors.format_exc_info,
            renderer,
            signals.remove_secrets,
        ],
    )
