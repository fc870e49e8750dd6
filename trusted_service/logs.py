"""One line for each event: JSON for machines, or `key=value` text for a person on a laptop.

Values are always quoted, so that a line break or escape code in one cannot forge a line. Security events have
the names of https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html
"""

import logging.config
import re
from typing import Any, Literal

import structlog

LogFormat = Literal["json", "text"]

SILENCED = ("msal", "azure", "urllib3")
"""Their messages can hold codes and tokens, or whole answers: what we need of them we log ourselves."""

TOKENS = re.compile(r"eyJ[A-Za-z0-9_-]{10}[A-Za-z0-9_.-]*")
"""JWTs, and what we sign: base64 of `{"`, and more of it than stands anywhere by chance."""
KEYS = re.compile(r"((?:account|access)key=)[A-Za-z0-9+/=]+", re.IGNORECASE)
"""Access keys in connection strings."""


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


def without_secrets(text: str) -> str:
    """The text without what looks like a token or an access key: the last net, for what nobody thought of."""
    return KEYS.sub(r"\1[removed]", TOKENS.sub("[removed]", text))


def logging_config(log_format: LogFormat) -> dict[str, Any]:
    """The same for the standard library alone, as `logging.config.dictConfig` and gunicorn take it."""
    silenced = {name: {"level": "CRITICAL"} for name in SILENCED}
    gunicorn = {"level": "INFO", "handlers": [], "propagate": True, "filters": ["gunicorn"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"gunicorn": {"()": _WithoutRequest}},
        "formatters": {"line": {"()": _formatter, "log_format": log_format}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
        },
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {"gunicorn.error": gunicorn, **silenced},
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
            lambda _logger, _method, line: without_secrets(str(line)),
        ],
    )


class _WithoutRequest(logging.Filter):
    """gunicorn quotes what it cannot read, and the whole address of what fails. Both can hold codes."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith(("Invalid request from", "Error handling request")):
            record.msg, record.args = re.split(r"['\"?]", message, maxsplit=1)[0].rstrip(" :b"), ()
        return True
