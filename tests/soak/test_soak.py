"""The soak in short, and the controls: it notices a missing claim and a planted breach."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from tests.conftest import available
from tests.engines import Servers
from tests.real.sabotage import CLAIM_NOTHING

from .run import Figures, soak

pytestmark = [pytest.mark.long, pytest.mark.engine]


def small(folder: Path, servers: Servers) -> Figures:
    """Run a soak that takes seconds, without faults."""
    return available(
        lambda: soak(folder, servers, "postgresql", rotations=200, grants=40, seed=1, faulty=False)
    )


def test_a_small_soak_has_nothing_wrong(tmp_path: Path, servers: Servers) -> None:
    """Every figure is as it has to be."""
    figures = small(tmp_path, servers)
    assert figures.wrong() == []
    assert figures.rotations >= 200


def test_without_a_claim_the_soak_reports_it(tmp_path: Path, servers: Servers) -> None:
    """The control: the workers do meet."""
    (tmp_path / CLAIM_NOTHING).touch()
    assert "refresh tokens presented too often" in small(tmp_path, servers).wrong()


def test_a_planted_breach_is_reported(tmp_path: Path, servers: Servers) -> None:
    """The ledger is audited at the end: a row whose verdict nobody can have written is named."""

    def plant(connection: Connection, *_: object) -> None:
        if not planted and connection.engine.url.database != "postgres":
            planted.append(True)
            connection.connection.cursor().execute(
                "CREATE OR REPLACE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN NEW.verdict := 'busy'; RETURN NEW; END $$; "
                "CREATE TRIGGER forge BEFORE UPDATE ON tokenrotate_redemptions "
                "FOR EACH ROW EXECUTE FUNCTION forge()"
            )

    planted: list[bool] = []

    def after_tables(metadata: object, connection: Connection, **_: object) -> None:
        plant(connection)

    from flask_tokenrotate.storage.schema import metadata

    event.listen(metadata, "after_create", after_tables)
    try:
        assert "breaches in the ledger" in small(tmp_path, servers).wrong()
    finally:
        event.remove(metadata, "after_create", after_tables)
    assert Engine is not None
