"""One line for each event: JSON for machines, or `key=value` text for a person on a laptop.

Values are always quoted, so that a line break or escape code in one cannot forge a line.
"""

import logging.config
from typing import Any, Literal

import structlog

LogFormat = Literal["json", "text"]

SILENCED = ("msal", "azure", "urllib3")
"""Their messages can hold codes and tokens, or whole answers: what we need of them we log ourselves."""


def configure(log_format: LogFormat) -> None:
    """Send structlog's and the standard library's records to standard error in this format."""
    structlog.configure(
        # Records with plain attributes, which Azure Monitor's handler understands too.
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(logging_config(log_format))


def logging_config(log_format: LogFormat) -> dict[str, Any]:
    """The same for the standard library alone, as `logging.config.dictConfig` and gunicorn take it."""
    silenced = {name: {"level": "CRITICAL"} for name in SILENCED}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": _formatter, "log_format": log_format}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
        },
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}, **silenced},
    }


def _formatter(log_format: LogFormat) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
