"""Races: what has to happen exactly once happens exactly once, on every engine."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from sqlalchemy import inspect, select, update

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.ports import GrantStore
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants, metadata
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.testing.memory import MemoryAttemptStore, MemoryGrantStore

from .backends import claimed, loaded, new_grant, sql_stores, token_set

T = TypeVar("T")
THREADS = 16
ROUNDS = 50


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all ``calls`` in threads that start together; return their results or raise what one raised."""
    barrier = threading.Barrier(len(calls))
    results: list[T] = []
    errors: list[BaseException] = []

    def run(call: Callable[[], T]) -> None:
        try:
            barrier.wait(30)
            results.append(call())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """The database with a connection for each thread."""
    opened = Database.from_uri(database, {"pool_size": THREADS})
    create_tables(opened.engine())
    yield opened
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


def claim_in_rounds(store: GrantStore, rounds: int) -> None:
    """Let all threads claim what they have seen, round after round: one winner in each."""
    grant_id = store.add(new_grant()).id
    for number in range(rounds):
        seen = loaded(store, grant_id)
        claims = at_once([lambda seen=seen: claimed(store, seen)] * THREADS)
        winners = [claim for claim in claims if claim is not None]
        assert len(winners) == 1
        row = loaded(store, grant_id)
        assert row.version == 2 * number + 1
        assert row.standing is not None
        assert row.standing.claim == winners[0]
        assert store.release(winners[0], NotPosted())


def test_one_of_many_threads_wins_the_claim(opened: Database) -> None:
    """Sixteen threads that saw the same version: one claim, and the row carries its id."""
    claim_in_rounds(sql_stores(opened)[0], ROUNDS)


def test_one_of_many_threads_wins_the_claim_in_memory() -> None:
    """The store in memory keeps the same promise."""
    claim_in_rounds(MemoryGrantStore(), ROUNDS)


def renew_in_rounds(store: GrantStore, rounds: int) -> None:
    """Let a holder renew while another worker takes the claim that it saw: one of the two comes first."""
    for _ in range(rounds):
        grant = store.add(new_grant())
        claim = claimed(store, grant)
        seen = loaded(store, grant.id)
        results = at_once(
            [
                lambda c=claim: ("renewed", store.renew(c, seconds=10.0)),
                lambda s=seen: ("claimed", claimed(store, s, doubts=1)),
            ]
        )
        done = {name: result for name, result in results if result}
        assert len(done) == 1
        row = loaded(store, grant.id)
        assert row.standing is not None
        assert (row.version, row.standing.claim) == (2, done.get("claimed", claim))


def test_a_renewal_and_a_claim_exclude_each_other(opened: Database) -> None:
    """Together they never leave a holder that believes in its renewal beside a worker that may post."""
    renew_in_rounds(sql_stores(opened)[0], ROUNDS)


def test_a_renewal_and_a_claim_exclude_each_other_in_memory() -> None:
    """The store in memory keeps the same promise."""
    renew_in_rounds(MemoryGrantStore(), ROUNDS)


class Unguarded(MemoryGrantStore):
    """The control: looks, lets the others look too, and then takes the claim."""

    def __init__(self) -> None:
        super().__init__()
        self._everybody_has_looked = threading.Barrier(THREADS)

    def try_claim(self, seen: Any, **how: Any) -> Any:
        """Take the claim on what the row was when it was looked at."""
        if self.rows[seen.id].version != seen.version:
            return Overtaken(self.rows[seen.id])
        self._everybody_has_looked.wait(30)
        self.ledger.clear()
        return super().try_claim(self.rows[seen.id], **how)


def test_a_claim_without_compare_and_set_has_many_winners() -> None:
    """The control: the race above is a race, and a store without the guard fails it."""
    with pytest.raises(AssertionError):
        claim_in_rounds(Unguarded(), 1)


def test_a_state_is_taken_once(opened: Database) -> None:
    """Eight callbacks with one state: one gets the attempt, seven hear that it was used."""
    stores = (sql_stores(opened)[1], MemoryAttemptStore())
    for attempts in stores:
        for number in range(10):
            state, browser = Secret(f"state-{number}"), Secret("browser")
            attempt = Attempt(
                provider="p", verifier=Secret("v"), nonce=Secret("n"), redirect_uri="https://app.example/"
            )
            attempts.begin(state, browser, attempt, seconds=60)
            taken = at_once([lambda a=attempts, s=state, b=browser: a.take(s, b)] * 8)
            assert taken.count(attempt) == 1
            assert taken.count("already_used") == 7


def test_concurrent_sign_ins_all_begin(opened: Database) -> None:
    """Inserting and pruning at once makes nobody fail: each attempt can be taken."""
    attempts = sql_stores(opened)[1]
    attempt = Attempt(
        provider="p", verifier=Secret("v"), nonce=Secret("n"), redirect_uri="https://a.example/"
    )

    def sign_in(number: int) -> object:
        state = Secret(f"state-{number}")
        attempts.begin(state, Secret("old"), attempt, seconds=-7200)
        attempts.begin(Secret(f"{number}"), Secret("b"), attempt, seconds=60)
        return attempts.take(Secret(f"{number}"), Secret("b"))

    taken = at_once([lambda number=number: sign_in(number) for number in range(THREADS)])
    assert taken == [attempt] * THREADS


def test_the_newest_of_concurrent_saves_wins(opened: Database) -> None:
    """Claims that succeeded one another save at once: the newest one's token set stays."""
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    claims = []
    for _ in range(8):
        claims.append(claimed(store, loaded(store, grant.id)))
        store.release(claims[-1], NotPosted())
    outcomes = at_once([lambda c=claim: store.save(grant, c, token_set(c.version)) for claim in claims])
    assert set(outcomes) <= {SaveOutcome.SAVED, SaveOutcome.SUPERSEDED}
    assert loaded(store, grant.id).tokens == token_set(claims[-1].version)


def test_sign_out_wins_against_saves(opened: Database) -> None:
    """However a save and a sign-out meet, the grant has ended, and nothing was saved after the end."""
    store = sql_stores(opened)[0]
    for _ in range(20):
        grant = store.add(new_grant())
        claim = claimed(store, grant)

        def end(grant_id: str = grant.id) -> object:
            return store.end(grant_id, "signed_out")

        def save(grant: Any = grant, claim: Any = claim) -> object:
            return store.save(grant, claim, token_set(1))

        results = at_once([end, save])
        saved = SaveOutcome.SAVED in results
        row = loaded(store, grant.id)
        assert True in results
        assert row.end_reason == "signed_out"
        assert row.tokens == (token_set(1) if saved else grant.tokens)


def _create(uri: str, ready: Any, failures: Any) -> None:
    """In a process of its own: make the tables when all are ready."""
    database = Database.from_uri(uri)
    ready.wait(30)
    try:
        create_tables(database.engine())
        sql_stores(database)[0].add(new_grant())
    except Exception as error:
        failures.put(repr(error))
    finally:
        database.engine().dispose()


def test_processes_create_the_tables_at_once(database: str) -> None:
    """Two processes that create the tables and use them at once: none fails."""
    context = multiprocessing.get_context("spawn")
    ready, failures = context.Barrier(2), context.Queue()
    children = [context.Process(target=_create, args=(database, ready, failures)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    found = [] if failures.empty() else [failures.get()]
    failures.close()
    failures.join_thread()
    assert found == []
    assert [child.exitcode for child in children] == [0] * 2
    opened = Database.from_uri(database)
    with opened.engine().connect() as connection:
        assert set(inspect(connection).get_table_names()) == set(metadata.tables)
        assert len(connection.execute(select(grants.c.id)).all()) == 2
    opened.engine().dispose()


def test_a_row_that_somebody_locks_does_not_hang_the_others(opened: Database) -> None:
    """Reading goes on while another transaction holds the row, and a claim made after it wins."""
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    sqlite = opened.engine().dialect.name == "sqlite"
    level = "SERIALIZABLE" if sqlite else "READ COMMITTED"
    with opened.engine().connect().execution_options(isolation_level=level) as connection:
        connection.execute(update(grants).where(grants.c.id == grant.id).values(subject="another"))
        assert loaded(store, grant.id).version == 0
        connection.rollback()
    assert claimed(store, grant) is not None
