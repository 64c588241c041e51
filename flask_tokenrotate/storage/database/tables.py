"""Creates the tables, also when several processes do it at once."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from .driver_errors import cause, translated
from .schema import metadata

_TRIES = 1 + len(metadata.tables)
"""A try fails only because another process created one of the tables in the meantime."""


def create_tables(engine: Engine) -> None:
    """Create the tables that do not exist yet; safe to call from several processes at once.

    Raises `StoreUnavailable` when the database cannot be reached or does not allow it.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            metadata.create_all(engine)
            return
        except SQLAlchemyError as error:
            if not tries_left or not isinstance(error, DBAPIError):
                raise translated(error, engine) from cause(error)
