"""What an application may pass to `TokenRotate` as its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from sqlalchemy import Engine


class HasEngine(Protocol):
    """An object with an engine, such as Flask-SQLAlchemy's. It is asked inside the application's context."""

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine."""
        ...


ApplicationEngine: TypeAlias = "Engine | HasEngine"
