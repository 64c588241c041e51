"""Races: what has to happen exactly once happens exactly once, in every store.

A part of the contract, over the same fixture as `test_contract`; what only a database has is in
`test_sql_races`.
"""

from __future__ import annotations

import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import pytest

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.testing.clock import ManualClock
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .backends import Stores, claimed, loaded, memory_stores, new_grant, token_set

T = TypeVar("T")
THREADS = 16
CLAIMS = 8
ROUNDS = 50


@pytest.fixture(scope="module")
def connections() -> int:
    """A connection for each thread: nothing but the store itself may put the threads into an order."""
    return THREADS


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    """Let Python switch threads between almost any two instructions, which finds a store without a lock."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


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
    assert len(results) == len(calls)
    return results


def claim_in_rounds(stores: Stores, rounds: int = ROUNDS) -> None:
    """Let all threads claim what they have seen, round after round: one winner in each."""
    store = stores.grants
    grant_id = store.add(new_grant()).id
    won: list[str] = []
    for number in range(rounds):
        seen = loaded(store, grant_id)
        claims = at_once([lambda seen=seen: claimed(store, seen)] * THREADS)
        winners = [claim for claim in claims if claim is not None]
        assert len(winners) == 1
        won.append(winners[0].id)
        row = loaded(store, grant_id)
        assert row.version == 2 * number + 1
        assert row.standing is not None
        assert row.standing.claim == winners[0]
        assert store.release(winners[0], NotPosted())
    assert [line[0] for line in stores.ledger(grant_id)] == won


def test_one_of_many_threads_wins_the_claim(stores: Stores) -> None:
    """Sixteen threads that saw the same version: one claim, and the row and the ledger carry its id."""
    claim_in_rounds(stores)


def renew_in_rounds(stores: Stores, rounds: int = ROUNDS) -> None:
    """Let a holder renew while another worker takes the claim that it saw: one of the two comes first."""
    store = stores.grants
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


def test_a_renewal_and_a_claim_exclude_each_other(stores: Stores) -> None:
    """Together they never leave a holder that believes in its renewal beside a worker that may post."""
    renew_in_rounds(stores)


def claims_in_a_row(stores: Stores, grant: Grant) -> list[Claim]:
    """Take and give up claims that succeed one another, all on the first token set."""
    claims: list[Claim] = []
    for _ in range(CLAIMS):
        claims.append(claimed(stores.grants, loaded(stores.grants, grant.id)))
        stores.grants.release(claims[-1], NotPosted())
    return claims


def save_in_rounds(stores: Stores, rounds: int = ROUNDS // 5) -> None:
    """Let stale claims and the newest save at once, each of them twice: no older token set comes on top."""
    store = stores.grants
    for _ in range(rounds):
        grant = store.add(new_grant())
        claims = claims_in_a_row(stores, grant)
        before = loaded(store, grant.id)

        def save(claim: Claim, grant: Grant = grant) -> tuple[int, SaveOutcome]:
            return claim.version, store.save(grant, claim, token_set(claim.version))

        results = at_once([lambda c=claim, save=save: save(c) for claim in claims * 2])
        assert {outcome for _, outcome in results} <= {SaveOutcome.SAVED, SaveOutcome.SUPERSEDED}
        saved = {version for version, outcome in results if outcome is SaveOutcome.SAVED}
        row, newest = loaded(store, grant.id), claims[-1].version
        assert results.count((newest, SaveOutcome.SAVED)) == 2
        # Each claim that was saved was written once, on top of an older one.
        assert row.version - before.version == len(saved)
        assert (row.tokens, row.token_version) == (token_set(newest), newest)
        verdicts = {claim_id: verdict for claim_id, _, verdict, _ in stores.ledger(grant.id)}
        assert {verdicts[claim.id] for claim in claims if claim.version in saved} == {"rotated"}


def test_the_newest_of_concurrent_saves_wins(stores: Stores) -> None:
    """Claims that succeeded one another save at once: the newest one's token set stays."""
    save_in_rounds(stores)


def end_in_rounds(stores: Stores, rounds: int = ROUNDS) -> None:
    """Let two sign-outs and a save meet: one sign-out ends the grant, and nothing is saved after the end."""
    store = stores.grants
    for _ in range(rounds):
        grant = store.add(new_grant())
        claim = claimed(store, grant)

        def end(grant: Grant = grant) -> object:
            return store.end(grant.id, "signed_out")

        def save(grant: Grant = grant, claim: Claim = claim) -> object:
            return store.save(grant, claim, token_set(1))

        results = at_once([end, save, end])
        assert (results.count(True), results.count(False)) == (1, 1)
        saved = SaveOutcome.SAVED in results
        assert saved or SaveOutcome.ENDED in results
        row = loaded(store, grant.id)
        assert (row.end_reason, row.standing, row.version) == ("signed_out", None, 2 + saved)
        assert row.tokens == (token_set(1) if saved else grant.tokens)


def test_sign_out_wins_against_saves(stores: Stores) -> None:
    """However a save and a sign-out meet, the grant has ended, and nothing was saved after the end."""
    end_in_rounds(stores)


class Unguarded(MemoryGrantStore):
    """The control: the store in memory without its lock, whose threads all read before one of them writes."""

    def __init__(self, clock: ManualClock, threads: int) -> None:
        super().__init__(clock)
        self._lock = nullcontext()  # type: ignore[assignment]
        self._everybody_has_read = threading.Barrier(threads)

    def _slot_is_refused(self, claim: Claim, slot: int) -> bool:
        return False

    def _write(self, row: Grant, **changes: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._everybody_has_read.wait(30)
        super()._write(row, **changes)


@pytest.mark.parametrize(
    ("race", "threads", "lost"),
    [
        (claim_in_rounds, THREADS, f"assert {THREADS} == 1"),
        (renew_in_rounds, 2, "assert 2 == 1"),
        (save_in_rounds, 2 * CLAIMS, rf"assert \(.* == {CLAIMS}"),
        (end_in_rounds, 3, r"assert \(2, 0\) == \(1, 1\)"),
    ],
    ids=["claim", "renew", "save", "end"],
)
def test_a_store_without_compare_and_set_fails(
    race: Callable[[Stores, int], None], threads: int, lost: str
) -> None:
    """The control: the races above are races, and a store that writes on what it once read loses them."""
    clock = ManualClock()
    with pytest.raises(AssertionError, match=lost):
        race(memory_stores(clock, Unguarded(clock, threads)), 1)


ATTEMPT = Attempt(
    provider="p", verifier=Secret("v"), nonce=Secret("n"), redirect_uri="https://app.example/callback"
)


def test_a_state_is_taken_once(stores: Stores) -> None:
    """Eight callbacks with one state: one gets the attempt, seven hear that it was used."""
    attempts, browser = stores.attempts, Secret("browser")
    for _ in range(10):
        state = Secret(secrets.token_hex(16))
        attempts.begin(state, browser, ATTEMPT, seconds=60)
        taken = at_once([lambda state=state: attempts.take(state, browser)] * 8)
        assert taken.count(ATTEMPT) == 1
        assert taken.count("already_used") == 7


def test_concurrent_sign_ins_all_begin(stores: Stores) -> None:
    """Inserting and pruning at once makes nobody fail: each attempt can be taken."""
    attempts = stores.attempts

    def sign_in() -> object:
        old, new = Secret(secrets.token_hex(16)), Secret(secrets.token_hex(16))
        attempts.begin(old, Secret("old"), ATTEMPT, seconds=-7200)
        attempts.begin(new, Secret("b"), ATTEMPT, seconds=60)
        return attempts.take(new, Secret("b"))

    assert at_once([sign_in] * THREADS) == [ATTEMPT] * THREADS
