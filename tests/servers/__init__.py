"""Real servers for the tests and for the programs in `tests.proofs`; each starts in one way, here.

- `databases` finds PostgreSQL, MariaDB and Redis or starts them. `restarting`, `standby` and `galera` start
  databases that a test stops or fails over; `pgbouncer` and `cutting_proxy` stand in front of one.
- `web` serves an application by gunicorn (`gunicorn_config`) and by the other web servers (`serving`):
  `application` uses the extension, `plain_application` does not, `sabotage` turns off one protection of the
  extension. `jobs` and `celery_jobs` get tokens outside requests.
- `fake_provider` and `django_oauth_toolkit` are the authorization servers.
- `processes` starts and stops all of them; `visitors` sends them requests, as browsers do.

`ENGINES` parametrises a test over the databases that every part has to work on: take the fixture
``database``, or ``@pytest.mark.parametrize("database", ENGINES, indirect=True)`` for a selection.
"""

from __future__ import annotations

import pytest

from .databases import Servers
from .processes import Unavailable

ENGINES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.engine),
    pytest.param("mariadb", id="mariadb", marks=pytest.mark.engine),
]

__all__ = ["ENGINES", "Servers", "Unavailable"]
