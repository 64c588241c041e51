"""The ledger read back: a grant's story, the audit that finds what is wrong, and pruning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import bindparam, delete, insert, null, select, update
from sqlalchemy.schema import DropIndex

from flask_tokenrotate.errors import LedgerConflict
from flask_tokenrotate.rotation.verdict import CONSEQUENCES, Busy, Verdict
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants, redemptions
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.database.transactions import Outcome, Transactions
from flask_tokenrotate.storage.database.write import Write
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.ledger import opened as opened_in_ledger
from flask_tokenrotate.storage.operations.audit import Audit

from .backends import BUSY, REFUSED, SEALER, UNKNOWN, claimed, loaded, new_grant, sql_stores, token_set

DAY = 86400.0


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """An empty database on each engine."""
    opened = Database.from_uri(database)
    create_tables(opened.engine())
    yield opened
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


@pytest.fixture
def store(opened: Database) -> SqlGrantStore:
    """The store on it."""
    return sql_stores(opened)[0]


def execute(opened: Database, *statements: Any) -> None:
    """Change the tables behind the store's back."""
    with opened.engine().connect() as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def eventful(store: SqlGrantStore) -> str:
    """Take a grant through busy, doubt, replay, rotation and a refusal; return its id."""
    grant = store.add(new_grant())
    store.release(claimed(store, grant), BUSY, retry_after=1.0)
    doubtful = claimed(store, loaded(store, grant.id))
    store.release(doubtful, UNKNOWN, in_doubt=True)
    store.save(grant, claimed(store, loaded(store, grant.id), doubts=1), token_set(1), http_status=200)
    last = claimed(store, loaded(store, grant.id))
    store.end(grant.id, "refused", claim=last, verdict=REFUSED)
    return grant.id


def test_the_history_tells_what_happened_in_order(opened: Database, store: SqlGrantStore) -> None:
    """Each redemption with its slot, verdict and status, oldest first, and of this grant alone."""
    grant_id = eventful(store)
    eventful(store)
    story = Audit(opened).history(grant_id)
    assert [(each.redeems, each.slot, each.verdict, each.http_status) for each in story] == [
        (0, None, "busy", 503),
        (0, 0, "unknown", None),
        (0, 1, "rotated", 200),
        (story[2].version, 0, "refused", 400),
    ]
    assert all(each.holder == "host:1:2" for each in story)
    assert all(each.settled_at is not None and each.claimed_at <= each.settled_at for each in story)


def test_the_ledger_holds_no_token(opened: Database, store: SqlGrantStore) -> None:
    """Of a refresh token there is its keyed hash only, the same for both redemptions of it."""
    grant_id = eventful(store)
    with opened.engine().connect() as connection:
        rows = connection.execute(
            select(redemptions).where(redemptions.c.grant_id == grant_id).order_by(redemptions.c.version)
        ).all()
    assert "refresh-" not in repr(rows)
    refresh_token = new_grant().response.refresh_token
    assert refresh_token is not None
    assert [row.token_hash for row in rows[:3]] == [SEALER.hash(refresh_token)] * 3
    assert rows[3].token_hash != rows[0].token_hash


def test_nothing_is_found_where_everything_is_right(opened: Database, store: SqlGrantStore) -> None:
    """Every ordinary turn of events passes: open claims, late winners, sign-outs, unrotated tokens."""
    eventful(store)
    late = store.add(new_grant())
    first = claimed(store, late)
    second = claimed(store, loaded(store, late.id), doubts=1)
    store.save(late, first, token_set(1))
    store.save(late, second, token_set(2))
    claimed(store, loaded(store, late.id))
    signed_out = store.add(new_grant())
    claim = claimed(store, signed_out)
    store.end(signed_out.id, "signed_out")
    store.save(signed_out, claim, token_set(1))
    unrotated = store.add(new_grant())
    for _ in range(4):
        seen = loaded(store, unrotated.id)
        store.save(seen, claimed(store, seen), seen.tokens)
    assert Audit(opened).breaches() == []


def skip_compare_and_set(store: SqlGrantStore) -> None:
    """Break the build: a claim no longer looks at the version that it was decided on."""
    mine = grants.c.id == bindparam("the_grant_id")
    store._claims = Write(
        update(grants).where(mine).values(claim_id=bindparam("the_claim_id")), opened_in_ledger()
    )


def test_the_audit_finds_the_double_redemption_of_a_broken_build(
    opened: Database, store: SqlGrantStore
) -> None:
    """Without compare-and-set and without the unique index two workers redeem one token: it shows."""
    skip_compare_and_set(store)
    execute(opened, *(DropIndex(index) for index in redemptions.indexes))
    grant = store.add(new_grant())
    for _ in range(2):
        assert claimed(store, grant) is not None
    breaches = Audit(opened).breaches()
    assert {breach.grant_id for breach in breaches} == {grant.id}
    found = " ".join(breach.what for breach in breaches)
    assert "2 redemptions of token version 0 hold the slot 0" in found
    assert "2 claims were taken at version 1" in found


def test_the_index_alone_stops_the_broken_build(
    opened: Database, store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the index in place the second worker of the same build is refused by the database."""
    grant = store.add(new_grant())
    skip_compare_and_set(store)
    assert claimed(store, grant) is not None
    with pytest.raises(LedgerConflict):
        claimed(store, grant)
    assert len(Audit(opened).history(grant.id)) == 1


def test_a_claim_that_shows_between_two_reads_is_a_lost_race(
    opened: Database, store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that lags behind shows another worker's claim late: no conflict with the ledger."""
    grant = store.add(new_grant())
    other = sql_stores(opened)[0]
    write, read = Transactions.write, Transactions.read
    reads: list[object] = []

    def lost(self: Transactions, *statements: Any, **rest: Any) -> Outcome:
        monkeypatch.setattr(Transactions, "write", write)
        return Outcome.LOST

    def read_while_it_is_applied(self: Transactions, statement: Any, **parameters: Any) -> Any:
        found = read(self, statement, **parameters)
        reads.append(statement)
        if len(reads) == 1:
            assert claimed(other, grant) is not None
        return found

    monkeypatch.setattr(Transactions, "write", lost)
    monkeypatch.setattr(Transactions, "read", read_while_it_is_applied)
    assert claimed(store, grant) is None


PLANTED = {
    "no redemption in the ledger brought": delete(redemptions),
    "was received, but the row has version 0": update(grants).values(token_version=0),
    "but the row is at 0": update(grants).values(version=0),
    "contradicts its verdict busy": update(redemptions).values(verdict="busy"),
    "contradicts its verdict rotated": update(redemptions).values(slot=None),
}


@pytest.mark.parametrize("reads", PLANTED)
def test_each_planted_breach_is_found(opened: Database, store: SqlGrantStore, reads: str) -> None:
    """Whoever changes a row or a line of the ledger contradicts the rest, and the audit says how."""
    grant = store.add(new_grant())
    store.save(grant, claimed(store, grant), token_set(1))
    assert Audit(opened).breaches() == []
    execute(opened, PLANTED[reads])
    assert any(reads in breach.what for breach in Audit(opened).breaches())


def slot_contradicts(opened: Database, store: SqlGrantStore, verdict: str, *, unspent: bool) -> bool:
    """Plant a verdict with the slot that does not go with it; return whether the audit reports the slot."""
    grant = store.add(new_grant())
    claimed(store, grant)
    slot = redemptions.c.slot if unspent else null()
    mine = redemptions.c.grant_id == grant.id
    execute(opened, update(redemptions).where(mine).values(verdict=verdict, slot=slot))
    return any(
        breach.grant_id == grant.id and f"contradicts its verdict {verdict}" in breach.what
        for breach in Audit(opened).breaches()
    )


@pytest.mark.parametrize("kind", get_args(Verdict), ids=lambda kind: kind.__name__)
def test_every_verdict_is_known_to_the_audit(
    opened: Database, store: SqlGrantStore, kind: type[Busy]
) -> None:
    """What a verdict says of the refresh token decides whether its claim holds a slot: for each class."""
    consequences = kind.consequences
    assert len(consequences.ledger_name) <= redemptions.c.verdict.type.length
    unspent = consequences.spent is False
    assert slot_contradicts(opened, store, consequences.ledger_name, unspent=unspent)


class Postponed(Busy):
    """A verdict that this version does not have."""

    consequences = replace(Busy.consequences, ledger_name="postponed")


def test_a_verdict_of_a_later_version_is_no_breach(
    opened: Database, store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its own version knows what it means; the control: once it is known, its slot is judged."""
    name = Postponed.consequences.ledger_name
    for unspent in (True, False):
        assert not slot_contradicts(opened, store, name, unspent=unspent)
    monkeypatch.setitem(CONSEQUENCES, name, Postponed.consequences)
    assert slot_contradicts(opened, store, name, unspent=True)


def test_three_presentations_of_one_refresh_token_are_found(opened: Database, store: SqlGrantStore) -> None:
    """Three lines with one hash are a breach even where their slots look right."""
    grant = store.add(new_grant())
    execute(opened, *(DropIndex(index) for index in redemptions.indexes))
    for number in range(3):
        line = {
            "claim_id": f"claim-{number}",
            "grant_id": grant.id,
            "version": number,
            "redeems": 0,
            "slot": number % 2,
            "token_hash": "the same",
            "holder": "h",
            "claimed_at": 0.0,
        }
        execute(opened, insert(redemptions).values(**line))
    assert any("was presented 3 times" in breach.what for breach in Audit(opened).breaches())


def test_old_redemptions_are_pruned_but_what_still_counts(opened: Database, store: SqlGrantStore) -> None:
    """By age; what brought the stored token set and the redemptions of it stay, so that its slots hold."""
    grant = store.add(new_grant())
    for _ in range(2):
        seen = loaded(store, grant.id)
        store.save(seen, claimed(store, seen), token_set(1))
    seen = loaded(store, grant.id)
    standing = claimed(store, seen)
    audit = Audit(opened)
    assert audit.prune(days=1) == 0
    execute(opened, update(redemptions).values(claimed_at=redemptions.c.claimed_at - DAY - 60.0))
    assert audit.prune(days=2) == 0
    assert audit.prune(days=1) == 1
    assert [each.version for each in audit.history(grant.id)] == [seen.token_version, standing.version]
    assert audit.breaches() == []
    with pytest.raises(LedgerConflict):
        claimed(store, loaded(store, grant.id))


def test_redemptions_of_deleted_grants_are_pruned_in_batches(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fits into one transaction is deleted in several, and all of it is counted."""
    monkeypatch.setattr("flask_tokenrotate.storage.operations.audit.BATCH", 2)
    for number in range(5):
        line = {"claim_id": f"{number}", "grant_id": "gone", "version": number, "redeems": number}
        execute(opened, insert(redemptions).values(**line, slot=0, holder="h", claimed_at=0.0))
    assert Audit(opened).prune(days=1) == 5
    assert Audit(opened).history("gone") == []
