"""Keeps secrets out of the logs of requests-oauthlib, oauthlib and urllib3.

At DEBUG requests-oauthlib logs tokens, codes, headers and bodies, oauthlib logs whole requests, and
urllib3 logs the URL with its query. Each record is a fixed sentence with arguments: the sentence is
kept, the arguments are hidden.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import oauthlib.oauth2  # noqa: F401  (its loggers must exist before they get their filter)
import requests_oauthlib  # noqa: F401
import urllib3  # noqa: F401

HIDDEN = "[hidden]"
_QUERY = re.compile(r"\?[^\s'\"<>]*")


class _Redaction(logging.Filter):
    """Replaces the arguments of each record and removes its traceback, whose last line may quote them."""

    def __init__(self, harmless: Callable[[object], object]) -> None:
        super().__init__()
        self._harmless = harmless

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._harmless(argument) for argument in record.args)
        elif record.args:
            record.args = {name: self._harmless(value) for name, value in record.args.items()}
        record.exc_info = record.exc_text = None
        return True


def _numbers_only(argument: object) -> object:
    return argument if isinstance(argument, int | float) else HIDDEN


def _without_query(argument: object) -> object:
    return argument if isinstance(argument, int | float) else _QUERY.sub("?" + HIDDEN, str(argument))


_FILTERS = {
    "requests_oauthlib": _Redaction(_numbers_only),
    "oauthlib": _Redaction(_numbers_only),
    "urllib3": _Redaction(_without_query),
}


def install_redaction() -> None:
    """Put the filters on the three libraries' loggers; calling it again changes nothing.

    A filter on a logger does not apply to the loggers below it, so each one gets its own.
    """
    for name in ("requests_oauthlib", "oauthlib", "urllib3", *logging.Logger.manager.loggerDict):
        redaction = _FILTERS.get(name.partition(".")[0])
        if redaction is not None:
            logging.getLogger(name).addFilter(redaction)
