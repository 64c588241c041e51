"""Real databases for the tests.

`ENGINES` parametrises a test over the databases that every part has to work on: take the fixture
``database``, or ``@pytest.mark.parametrize("database", ENGINES, indirect=True)`` for a selection.
"""

from __future__ import annotations

import pytest

from .servers import Servers, Unavailable

ENGINES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.engine),
    pytest.param("mariadb", id="mariadb", marks=pytest.mark.engine),
]

__all__ = ["ENGINES", "Servers", "Unavailable"]
