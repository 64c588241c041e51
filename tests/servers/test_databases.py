"""The private servers start where nothing runs, and a missing one says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from ..conftest import available
from . import Servers, Unavailable
from . import databases as module
from .databases import answers


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.parametrize("engine", ["postgresql", "mariadb", "redis"])
def test_a_private_server_is_started_where_none_runs(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no server at the usual place, one of the test run's own answers, and ends with it."""
    known = module._KNOWN[engine]
    nowhere = known[0].replace(known[0].rsplit(":", 1)[1].split("/")[0], "1")
    monkeypatch.setitem(module._KNOWN, engine, (nowhere, known[1]))
    monkeypatch.delenv(f"TOKENROTATE_TEST_{engine.upper()}", raising=False)
    servers = Servers(tmp_path)
    url = available(lambda: servers.url(engine))
    assert url.port != 1
    assert answers(url)
    if engine != "redis":
        database = servers.new_database(engine)
        opened = create_engine(database)
        assert inspect(opened).get_table_names() == []
        opened.dispose()
    servers.close()
    assert not answers(url)


def test_a_configured_server_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a server is named, no other is used in its place."""
    monkeypatch.setenv("TOKENROTATE_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:1/x")
    with pytest.raises(Unavailable, match="TOKENROTATE_TEST_POSTGRESQL"):
        Servers(tmp_path).url("postgresql")


def test_required_engines_fail_instead_of_skipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI a missing engine is a failure; elsewhere it is a skip with the reason."""

    def missing() -> None:
        raise Unavailable("no server here")

    monkeypatch.delenv("TOKENROTATE_REQUIRE_ENGINES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no server here"):
        available(missing)
    monkeypatch.setenv("TOKENROTATE_REQUIRE_ENGINES", "1")
    with pytest.raises(pytest.fail.Exception, match="no server here"):
        available(missing)
