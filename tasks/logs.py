"""The log of runs that other programs read: an object a line, with the run, its step and its versions."""

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime

from restill.settings import Settings
from tasks.recording import current

_NAME = "restill-json"
_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "restill")
_FROM_PREFECT = {"run_id": "flow_run_id", "run": "flow_run_name", "flow": "flow_name", "step": "task_run_name"}


class JsonLines(logging.Formatter):
    """One JSON object a line; what a run does not have, or does not know yet, is left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        run = current()
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **{name: getattr(record, attribute, None) for name, attribute in _FROM_PREFECT.items()},
            "data_version": run.data_version,
            "version": run.version,
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in found.items() if value is not None}, ensure_ascii=False)


def write(settings: Settings) -> None:
    """Have runs of this process write their log as configured, beside what Prefect keeps. Again, nothing changes."""
    if settings.logs.format == "off":
        return
    handler: logging.Handler
    if settings.logs.file is None:
        handler = logging.StreamHandler(sys.stdout)
    else:
        path = settings.root / settings.logs.file
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")  # goes on after a rotation
    handler.set_name(_NAME)
    handler.setFormatter(JsonLines())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in [found for found in logger.handlers if found.get_name() == _NAME]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
