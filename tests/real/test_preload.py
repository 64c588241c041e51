"""``gunicorn --preload``: the application, and whatever it has opened, is there before the fork."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.testing import FakeProvider
from tests.servers.sabotage import SHARE_CONNECTIONS, turned_on
from tests.servers.visitors import Answer, Visitor, wave
from tests.servers.web import APPLICATION, gunicorn, settings

DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.engine),
]
both_databases = pytest.mark.parametrize("database", DATABASES, indirect=True)


def answers_of_preloaded_workers(provider: FakeProvider, database: str, folder: Path) -> list[Answer]:
    """Return what a session's requests bring from workers whose parent has read the database already."""
    create_tables(create_engine(database, poolclass=NullPool))
    environment = settings(database, {"fake": provider.registration()})
    options = ["--preload", "--threads", "8", "--worker-connections", "12"]  # one cannot take all of the wave
    with gunicorn(APPLICATION, folder, *options, CONNECT_EARLY="yes", **environment) as url:
        visitor = Visitor(url)
        visitor.sign_in(provider.mint(expires_in=-1))
        return wave([visitor], 32)


@both_databases
def test_no_database_connection_crosses_the_fork(
    provider: FakeProvider, database: str, tmp_path: Path
) -> None:
    """A worker opens connections of its own; those of the parent are left to the parent."""
    answers = answers_of_preloaded_workers(provider, database, tmp_path)
    assert [answer.status for answer in answers] == [200] * 32
    assert len({answer.json["pid"] for answer in answers}) > 1
    assert {answer.json["foreign_connections"] for answer in answers} == {0}
    assert provider.redemptions() == 1


def test_a_shared_connection_would_be_seen(provider: FakeProvider, tmp_path: Path) -> None:
    """The control: a child that goes on with its parent's connections is told apart."""
    with turned_on(tmp_path, SHARE_CONNECTIONS):
        answers = answers_of_preloaded_workers(provider, f"sqlite:///{tmp_path}/grants.sqlite3", tmp_path)
    assert max(answer.json["foreign_connections"] for answer in answers) > 0
