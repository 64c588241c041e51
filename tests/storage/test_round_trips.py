"""What a rotation asks of the database: one read, a claim with its row in the ledger, a save. No more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.rotation.assembly import Rotation
from flask_tokenrotate.rotation.tokens import Claim, Grant
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.testing.memory import MemoryRescue, MemoryWakeups
from flask_tokenrotate.threads import CallersThread
from tests.rotation.defaults import default_policy, default_timing

from ..conftest import available
from ..rotation.processes import Notified, ScriptedEndpoint
from ..servers import ENGINES, Servers
from ..servers.cutting_proxy import CuttingProxy
from .backends import SEALER, new_grant, token_set

STATEMENTS = {
    # On PostgreSQL the ledger's rows are written by the statements of the claim and the save themselves.
    "postgresql": ["SELECT", "WITH", "WITH"],
    "mariadb": ["SELECT", "BEGIN", "UPDATE", "INSERT", "BEGIN", "UPDATE", "UPDATE"],
    "sqlite": ["SELECT", "BEGIN", "UPDATE", "INSERT", "BEGIN", "UPDATE", "UPDATE"],
}
"""The statements of one rotation, COMMIT not among them."""

ROUND_TRIPS = {"postgresql": 3, "mariadb": 12}
"""PyMySQL's connection pool also sends a ROLLBACK whenever it gets a connection back."""


class Rotations:
    """A process whose grants are rotated one after the other, and what that cost its database."""

    def __init__(self, uri: str) -> None:
        self.database = Database.from_uri(uri)
        create_tables(self.database.engine())
        self.store = SqlGrantStore(self.database, SEALER)
        clock = SystemClock()
        self.tokens = Rotation(
            store=self.store,
            endpoint=ScriptedEndpoint(),
            clock=clock,
            observer=Notified(),
            rescue=MemoryRescue(),
            wakeups=MemoryWakeups(clock),
            threads=CallersThread(),
            policy_for=lambda provider: default_policy(),
            timing=default_timing(),
            wait_seconds=15.0,
            cache_entries=10,
            cache_seconds=5.0,
        ).tokens
        self.statements: list[str] = []
        event.listen(self.database.engine(), "before_cursor_execute", self._note)

    def _note(self, connection: object, cursor: object, statement: str, *rest: object) -> None:
        self.statements.append(statement.split()[0])

    def dead_grant(self) -> str:
        """Sign somebody in whose access token has run out."""
        grant = self.store.add(new_grant())
        self.store.expire(grant.id, 0)
        self.statements.clear()
        return grant.id


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(engine: str, servers: Servers) -> Iterator[CuttingProxy | None]:
    """What counts the round trips; None on SQLite, which has none."""
    if engine == "sqlite":
        yield None
        return
    proxy = CuttingProxy(available(lambda: servers.new_database(engine)))
    yield proxy
    proxy.close()


@pytest.fixture
def rotations(engine: str, proxy: CuttingProxy | None, servers: Servers) -> Iterator[Rotations]:
    rotations = Rotations(servers.new_database(engine) if proxy is None else proxy.uri)
    yield rotations
    rotations.database.engine().dispose()


def test_a_rotation_is_one_read_and_two_guarded_writes(
    engine: str, rotations: Rotations, proxy: CuttingProxy | None
) -> None:
    """The ledger's row is in the claim's transaction; nothing is read between, before or after."""
    rotations.tokens.get(rotations.dead_grant())
    grant_id = rotations.dead_grant()
    before = 0 if proxy is None else proxy.round_trips
    assert rotations.tokens.get(grant_id).origin == "rotated"
    assert rotations.statements == STATEMENTS[engine]
    if proxy is not None:
        assert proxy.round_trips - before == ROUND_TRIPS[engine]


def test_a_fresh_token_is_one_read_and_then_none(
    engine: str, rotations: Rotations, proxy: CuttingProxy | None
) -> None:
    """The process cache answers until its seconds are over."""
    grant_id = rotations.store.add(new_grant()).id
    rotations.statements.clear()
    assert [rotations.tokens.get(grant_id).origin for _ in range(3)] == ["row", "cache", "cache"]
    assert rotations.statements == ["SELECT"]


LOST_CLAIM = {
    "postgresql": ["SELECT", "WITH", "SELECT"],
    "mariadb": ["SELECT", "BEGIN", "UPDATE", "SELECT"],
    "sqlite": ["SELECT", "BEGIN", "UPDATE", "SELECT"],
}


def test_a_lost_claim_costs_one_more_read(
    engine: str, rotations: Rotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loser goes on with the row that showed it that it lost, and does not read it again."""
    grant_id = rotations.dead_grant()
    load = rotations.store.load

    def load_and_be_overtaken(grant_id: str) -> Grant | None:
        seen = load(grant_id)
        monkeypatch.undo()
        assert seen is not None
        claim = rotations.store.try_claim(seen, doubts=0, holder="faster", seconds=10.0)
        assert isinstance(claim, Claim)
        rotations.store.save(seen, claim, token_set(1, expires_at=seen.seen_at + 3600.0))
        del rotations.statements[1:]
        return seen

    monkeypatch.setattr(rotations.store, "load", load_and_be_overtaken)
    assert rotations.tokens.get(grant_id).token_version == 1
    assert rotations.statements == LOST_CLAIM[engine]
