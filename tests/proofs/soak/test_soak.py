"""The soak in short, and the controls: it notices a missing claim and a planted breach."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import available
from tests.servers import Servers
from tests.servers.databases import execute
from tests.servers.sabotage import CLAIM_NOTHING

from .figures import Figures
from .run import new_database, soak

pytestmark = [pytest.mark.long, pytest.mark.engine]

FORGERY = (
    "CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN NEW.verdict := 'busy'; RETURN NEW; END $$",
    "CREATE TRIGGER forge BEFORE UPDATE ON tokenrotate_redemptions FOR EACH ROW EXECUTE FUNCTION forge()",
)
"""Lets the ledger say of each redemption that its refresh token was not spent."""


@pytest.fixture
def database(servers: Servers) -> str:
    """A database on PostgreSQL, with the tables."""
    return available(lambda: new_database(servers, "postgresql"))


def small(folder: Path, servers: Servers, database: str) -> Figures:
    """Run a soak that takes seconds, without disruptions."""
    return soak(
        folder, servers, "postgresql", rotations=200, grants=40, seed=1, disrupted=False, database=database
    )


def test_a_small_soak_has_nothing_wrong(tmp_path: Path, servers: Servers, database: str) -> None:
    """Every figure is as it has to be."""
    figures = small(tmp_path, servers, database)
    assert figures.wrong() == []
    assert figures.rotations >= 200


def test_without_a_claim_the_soak_reports_it(tmp_path: Path, servers: Servers, database: str) -> None:
    """The control: the workers do meet."""
    (tmp_path / CLAIM_NOTHING).touch()
    assert "refresh tokens presented too often" in small(tmp_path, servers, database).wrong()


def test_a_planted_breach_is_reported(tmp_path: Path, servers: Servers, database: str) -> None:
    """The ledger is audited at the end."""
    execute(make_url(database), *FORGERY)
    assert "breaches in the ledger" in small(tmp_path, servers, database).wrong()
