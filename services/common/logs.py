"""Logs as JSON lines on stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def logger(name: str) -> logging.Logger:
    """Return the logger `name`; what is passed as `extra` becomes members of the JSON line."""
    return logging.getLogger(name)


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, app_id, instance, what `context` gives (the ids of the
    current span), extras.
    """

    def __init__(self, app_id: str, instance: str, context: Callable[[], Mapping[str, str]] = dict) -> None:
        super().__init__()
        self._who = {"app_id": app_id, "instance": instance}
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line: dict[str, Any] = {
            "t": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._who,
            **self._context(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _PLAIN})
        if record.exc_info:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class OnceAMinute(logging.Filter):
    """Lets through one record a minute of the loggers below `prefix`, and everything of the others."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is logged."""
        if not record.name.startswith(self._prefix):
            return True
        if record.created < self._next:
            return False
        self._next = record.created + 60.0
        return True


def to_stderr(
    app_id: str, instance: str, level: str, context: Callable[[], Mapping[str, str]] = dict
) -> None:
    """Log from `level` on to stderr, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(app_id, instance, context))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Uvicorn narrates its start and stop, httpx every request: nothing that health routes and metrics do not
    # say.
    for chatty in ("uvicorn", "httpx"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # The exporter reports each failed batch, every other second while a collector is away.
    handler.addFilter(OnceAMinute("opentelemetry"))
