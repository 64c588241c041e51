"""A multi-primary cluster: two nodes take writes of one row at once, and one of them wins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import update

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.database.transactions import Outcome, Transactions
from flask_tokenrotate.storage.grants import SqlGrantStore

from ..conftest import available
from ..servers.galera import NODES, Galera
from .backends import claimed, loaded, new_grant, sql_stores, token_set
from .test_races import at_once

pytestmark = [pytest.mark.long, pytest.mark.engine]
ROUNDS = 100


@pytest.fixture(params=["AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ"])
def nodes(request: pytest.FixtureRequest, galera: Galera) -> Iterator[list[Database]]:
    """The same database at each node."""
    uri = galera.new_database()
    options = {"isolation_level": request.param, "connect_args": {"read_timeout": 3}}
    nodes = [Database.from_uri(galera.at_node(uri, node), options) for node in range(NODES)]
    create_tables(nodes[0].engine())
    yield nodes
    for node in nodes:
        assert node.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
        node.engine().dispose()


def stores(nodes: list[Database]) -> list[SqlGrantStore]:
    """Return a store at each node."""
    return [sql_stores(node)[0] for node in nodes]


def seen_everywhere(everywhere: list[SqlGrantStore], grant_id: str, version: int) -> None:
    """Wait until each node shows ``version``: replication takes a moment."""
    give_up_at = time.monotonic() + 10
    while time.monotonic() < give_up_at:
        rows = [store.load(grant_id) for store in everywhere]
        if all(row is not None and row.version >= version for row in rows):
            return
    raise AssertionError(f"not every node came to version {version}")


def test_one_node_wins_each_claim(nodes: list[Database]) -> None:
    """Both updates may report one row; the loser learns it at COMMIT, and exactly one claim is won."""
    everywhere = stores(nodes)
    grant = everywhere[0].add(new_grant())
    for number in range(ROUNDS):
        seen_everywhere(everywhere, grant.id, 2 * number)
        seen = loaded(everywhere[0], grant.id)
        claims = at_once([lambda store=store, seen=seen: claimed(store, seen) for store in everywhere])
        winners = [claim for claim in claims if claim is not None]
        assert len(winners) == 1
        seen_everywhere(everywhere, grant.id, 2 * number + 1)
        standing = loaded(everywhere[1], grant.id).standing
        assert standing is not None
        assert standing.claim == winners[0]
        assert everywhere[1].release(winners[0], NotPosted())


def test_a_renewal_and_a_claim_on_two_nodes_exclude_each_other(nodes: list[Database]) -> None:
    """Both updates may report one row here too: the holder is not renewed or the other has no claim."""
    everywhere = stores(nodes)
    for _ in range(ROUNDS):
        grant = everywhere[0].add(new_grant())
        claim = claimed(everywhere[0], grant)
        seen_everywhere(everywhere, grant.id, 1)
        seen = loaded(everywhere[1], grant.id)
        results = at_once(
            [
                lambda claim=claim: everywhere[0].renew(claim, seconds=10.0),
                lambda seen=seen: claimed(everywhere[1], seen, doubts=1),
            ]
        )
        assert len([result for result in results if result]) == 1
        seen_everywhere(everywhere, grant.id, 2)


def test_a_rightful_claim_right_after_a_commit_elsewhere_is_won(nodes: list[Database]) -> None:
    """A node that has not caught up answers row count 0 or a deadlock: that is stale, not lost."""
    everywhere = stores(nodes)
    grant = everywhere[0].add(new_grant())
    seen_everywhere(everywhere, grant.id, 0)
    for number in range(ROUNDS):
        seen = replace(grant, version=2 * number)
        store = everywhere[number % NODES]
        claim = claimed(store, seen)
        assert claim is not None
        assert store.release(claim, NotPosted())
        # The next node is asked with what this one knows, at once, as a user's next request would.
        seen_everywhere([everywhere[(number + 1) % NODES]], grant.id, 2 * number + 2)


def test_no_token_set_is_dropped_by_a_conflict(nodes: list[Database]) -> None:
    """While other nodes write the row without pause, a save that is rightful is saved."""
    everywhere = stores(nodes)
    for _ in range(20):
        grant = everywhere[0].add(new_grant())
        seen_everywhere(everywhere, grant.id, 0)
        claim = claimed(everywhere[0], grant)
        seen_everywhere(everywhere, grant.id, 1)
        outcomes = at_once(
            [
                lambda grant=grant, claim=claim: everywhere[0].save(grant, claim, token_set(1)),
                lambda grant=grant: everywhere[1].expire(grant.id, 0),
                lambda grant=grant: everywhere[2].expire(grant.id, 0),
            ]
        )
        assert SaveOutcome.SAVED in outcomes
        seen_everywhere(everywhere, grant.id, 2)
        assert loaded(everywhere[2], grant.id).tokens == token_set(1)


def test_a_row_count_alone_is_wrong_here(galera: Galera) -> None:
    """The control: believing each node's row count at execute, some claim has two winners."""
    uri = galera.new_database()
    nodes = [
        Database.from_uri(galera.at_node(uri, node), {"isolation_level": "READ COMMITTED"}) for node in (0, 1)
    ]
    create_tables(nodes[0].engine())
    everywhere = stores(nodes)
    grant = everywhere[0].add(new_grant())
    seen_everywhere(everywhere, grant.id, 0)
    write = update(grants).where(grants.c.id == grant.id, grants.c.version == 0).values(version=1)
    connections = [node.engine().connect() for node in nodes]
    assert [connection.execute(write).rowcount for connection in connections] == [1, 1]
    for connection in connections:
        connection.rollback()
        connection.close()
    outcomes = at_once([lambda node=node: Transactions(node).write(write) for node in nodes])
    assert outcomes.count(Outcome.WRITTEN) == 1
    for node in nodes:
        node.engine().dispose()


def comes_to(store: SqlGrantStore, grant_id: str, *, works: bool, seconds: float) -> bool:
    """Write until the store works, or does not, as asked; return whether it came to that in time."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        try:
            store.expire(grant_id, 0)
        except StoreUnavailable:
            if not works:
                return True
        else:
            if works:
                return True
    return False


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "READ COMMITTED"])
def test_a_node_without_quorum_is_unavailable_and_comes_back(level: str) -> None:
    """Alone, a node refuses everything: StoreUnavailable; with the others back, the same store works."""
    cluster = available(Galera.start)
    options = {"isolation_level": level, "connect_args": {"read_timeout": 3}}
    node = Database.from_uri(cluster.new_database(), options)
    create_tables(node.engine())
    store = sql_stores(node)[0]
    grant = store.add(new_grant())
    try:
        for other in (1, 2):
            cluster.freeze(other)
        assert comes_to(store, grant.id, works=False, seconds=30)
        with pytest.raises(StoreUnavailable):
            claimed(store, grant)
        for other in (1, 2):
            cluster.thaw(other)
        assert comes_to(store, grant.id, works=True, seconds=60)
        assert claimed(store, loaded(store, grant.id)) is not None
        assert node.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    finally:
        node.engine().dispose()
        cluster.stop()
