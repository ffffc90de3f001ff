"""The log on standard error: one line an event, as text or as JSON.

A line is made by the thread that logs, and written by another one (`streams`), so that nobody waits for who reads it.
"""

import json
import logging
import sys
import time
from typing import Any

from mlpserve_server.host import streams


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, then the event's own fields.

    Args:
        constant: fields of every line.
    """

    def __init__(self, constant: dict[str, Any]) -> None:
        super().__init__()
        self._constant = constant

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._constant,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, message, and the event's own fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        fields = getattr(record, "fields", {})
        head, newline, rest = super().format(record).partition("\n")
        return head + "".join(f" {key}={value}" for key, value in fields.items()) + newline + rest


def configure(kind: str, worker: int | None = None) -> None:
    """Send the log to standard error, and let nobody wait for it.

    Args:
        kind: "text" or "json".
        worker: this process's id, where it is one of several.
    """
    streams.unblock()
    who = "" if worker is None else f"worker {worker}: "
    formatter: logging.Formatter = TextFormatter(f"%(asctime)s %(levelname)s {who}%(message)s")
    if kind == "json":
        formatter = JsonFormatter({} if worker is None else {"worker": worker})
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
