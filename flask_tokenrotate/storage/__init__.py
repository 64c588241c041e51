"""The store on SQLAlchemy Core: its own engine, its own tables, its own short transactions."""

from .attempts import SqlAttemptStore
from .engine import Database
from .grants import SqlGrantStore
from .sealing import Sealer, new_key, sealer_from
from .sessions import SqlSessionStore
from .tables import create_tables

__all__ = [
    "Database",
    "Sealer",
    "SqlAttemptStore",
    "SqlGrantStore",
    "SqlSessionStore",
    "create_tables",
    "new_key",
    "sealer_from",
]
