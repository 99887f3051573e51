"""One line per log record on stderr. Invariant: no record, however it is filled, makes two lines."""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Final, TextIO

LEVEL_VARIABLE: Final = "MICA_LOG"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO mica-planner slice s1 placed device="GPU-1"``: what ``extra`` holds comes last."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [f"{at}.{int(record.msecs):03d}Z", record.levelname, f"mica-{self._service}", record.getMessage()]
        parts += [f"{key}={_value(value)}" for key, value in vars(record).items() if key not in _PLAIN]
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(_explain(record.exc_info[1]))
        return " ".join(parts).replace("\r", "\\r").replace("\n", "\\n")


def configure_logging(service: str, environment: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> None:
    """Send this process's log to ``stream`` (stderr), from the level that MICA_LOG names (info)."""
    asked = environment.get(LEVEL_VARIABLE) or "info"
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(service))
    logging.basicConfig(level=LEVELS.get(asked.lower(), logging.INFO), handlers=[handler], force=True)
    if asked.lower() not in LEVELS:
        logging.getLogger(__name__).warning("%s: got %s, allowed: %s; info is used", LEVEL_VARIABLE, asked, ", ".join(LEVELS))


def _value(value: object) -> str:
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def _explain(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{frame.filename.rsplit('/mica/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))
    return f"error={json.dumps(f'{type(error).__name__}: {error}', ensure_ascii=False)} at={places or 'unknown'}"
