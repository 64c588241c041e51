"""Where notifications of settled claims are sent and received: PostgreSQL's channel, with one driver."""

from __future__ import annotations

from sqlalchemy import Engine

CHANNEL = "tokenrotate"


def can_notify(engine: Engine) -> bool:
    """Return whether notifications can be sent and received on ``engine``."""
    return (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")
