"""The log on standard error: one line an event, as text or as JSON.

A line is made by the thread that logs, and written by another one (`streams`), so that nobody waits for who reads it.
Whatever callers and files put into an event, it stays one line: nobody writes lines of their own into the log.
"""

import json
import logging
import sys
import time
from typing import Any

from mlpserve.shown import shown
from mlpserve_server.host import streams

LONGEST_MESSAGE, LONGEST_FIELD, LONGEST_LINE = 2000, 300, 1000  # characters; the last of a traceback


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
            "message": shown(record.getMessage(), LONGEST_MESSAGE),
            **self._constant,
            **{name: _cut(value) for name, value in getattr(record, "fields", {}).items()},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, message, and the event's own fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        record.message = shown(record.getMessage(), LONGEST_MESSAGE)
        record.asctime = self.formatTime(record)
        fields = getattr(record, "fields", {})
        line = self.formatMessage(record) + "".join(f" {key}={_cut(value)}" for key, value in fields.items())
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([line, *("    " + shown(part, LONGEST_LINE) for part in trace)])


def _cut(value: Any) -> Any:
    """A field's value; numbers stay numbers."""
    return shown(value, LONGEST_FIELD) if isinstance(value, str) else value


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    # gRPC logs a traceback, twice, for each metadata value that is not UTF-8, and goes on with the call, and one for
    # each answer to a caller that has left: any caller could fill the log.
    said = ("Invalid encoding", "ExecuteBatchError raised in core")
    return not (record.name == "grpc._cython.cygrpc" and str(record.msg).startswith(said))


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
    handler.addFilter(_is_ours_to_tell)
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
