"""Log lines in the platform's format, that of mdclog: one JSON object a line."""

import json
import logging
import traceback
from typing import Final

_CRITICALITY: Final = {"CRITICAL": "ERROR", "ERROR": "ERROR", "WARNING": "WARNING", "INFO": "INFO", "DEBUG": "DEBUG"}
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class MdclogFormatter(logging.Formatter):
    """``{"ts": ms since the epoch, "crit": level, "id": who, "mdc": {"logger", "thread"}, "msg": text}``.

    Args:
        ident: instance of the xApp that logs.
    """

    def __init__(self, ident: str) -> None:
        super().__init__()
        self._ident = ident

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        line = {
            "ts": int(record.created * 1000),
            "crit": _CRITICALITY.get(record.levelname, "INFO"),
            "id": self._ident,
            "mdc": {"logger": record.name, "thread": record.threadName},
            "msg": text,
        }
        return json.dumps(line)


def set_up_logging(level: str, form: str, ident: str) -> None:
    """Log to stderr, ``form`` being ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(MdclogFormatter(ident) if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Their INFO lines repeat what the xApp counts.
    for chatty in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
