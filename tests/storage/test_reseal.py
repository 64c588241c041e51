"""Resealing with a new key while the application runs, on every engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from flask_tokenrotate.errors import GrantUnreadable
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.operations import reseal
from flask_tokenrotate.storage.operations.survey import grants_by_key, survey
from flask_tokenrotate.storage.sealed import sealing
from flask_tokenrotate.storage.sealed.sealing import Sealer

from .backends import claimed, loaded, new_grant, token_set
from .test_races import at_once

OLD, NEW, LOST = (bytes([number]) * 32 for number in (1, 2, 3))
BOTH = Sealer([NEW, OLD])


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """The database; after the test no connection may be checked out."""
    opened = Database.from_uri(database, {"pool_size": 4})
    create_tables(opened.engine())
    yield opened
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


def store(database: Database, *keys: bytes) -> SqlGrantStore:
    """The grants as a worker with ``keys`` sees them."""
    return SqlGrantStore(database, Sealer(keys))


def totals(batches: Iterator[reseal.Resealed]) -> tuple[int, int, int]:
    """Rows resealed, skipped and unreadable over all batches."""
    seen = list(batches)
    return (
        sum(each.resealed for each in seen),
        sum(each.skipped for each in seen),
        sum(len(each.unreadable) for each in seen),
    )


class Interrupted(Sealer):
    """Lets ``meanwhile`` happen once, between the read of a row and the write of its new value."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__([NEW, OLD])
        self._meanwhile = [meanwhile]

    def seal(self, plain: bytes, bound_to: Any) -> bytes:
        if self._meanwhile:
            self._meanwhile.pop()()
        return super().seal(plain, bound_to)


def test_grants_are_counted_by_the_key_that_sealed_them(opened: Database) -> None:
    """Read from the sealed values themselves; no key is needed."""
    assert grants_by_key(opened) == {}
    store(opened, OLD).add(new_grant())
    for _ in range(2):
        store(opened, NEW, OLD).add(new_grant())
    (new,), (old,) = Sealer([NEW]).fingerprints, Sealer([OLD]).fingerprints
    assert grants_by_key(opened) == {old: 1, new: 2}


def test_the_old_key_may_go_afterwards(opened: Database) -> None:
    """All rows, ended ones too, open with the new key alone; nothing else of a row has changed."""
    with_old = store(opened, OLD)
    ids = [with_old.add(new_grant()).id for _ in range(5)]
    with_old.end(ids[0], "signed_out")
    before = [loaded(with_old, grant_id) for grant_id in ids]
    with pytest.raises(GrantUnreadable):
        store(opened, NEW).load(ids[0])
    assert totals(reseal.reseal(opened, BOTH, batch=2)) == (5, 0, 0)
    for grant_id, was in zip(ids, before, strict=True):
        now = loaded(store(opened, NEW), grant_id)
        assert (now.tokens, now.version, now.token_version) == (was.tokens, was.version, was.token_version)
        assert now.end_reason == was.end_reason


def test_a_run_that_was_stopped_is_taken_up_again(opened: Database) -> None:
    """After a stop in the middle all rows open with both keys, and the next run does only the rest."""
    ids = [store(opened, OLD).add(new_grant()).id for _ in range(5)]
    stopped = reseal.reseal(opened, BOTH, batch=2)
    assert next(stopped).resealed == 2
    stopped.close()
    assert all(store(opened, NEW, OLD).load(grant_id) for grant_id in ids)
    assert totals(reseal.reseal(opened, BOTH, batch=2)) == (3, 2, 0)


def test_a_row_that_no_key_opens_is_named_and_left_alone(opened: Database) -> None:
    """The others are resealed all the same, and the fingerprint tells which key is missing."""
    lost_id = store(opened, LOST).add(new_grant()).id
    store(opened, OLD).add(new_grant())
    batches = list(reseal.reseal(opened, BOTH))
    assert [each.resealed for each in batches] == [1]
    missing = reseal.Unreadable(grant_id=lost_id, sealed_with=Sealer([LOST]).fingerprints[0])
    assert batches[0].unreadable == (missing,)
    assert store(opened, LOST).load(lost_id) is not None


@pytest.mark.parametrize("key", [OLD, NEW], ids=["by an old worker", "by a new worker"])
def test_a_save_in_between_is_kept(opened: Database, key: bytes) -> None:
    """A token set saved between the read and the write is what the row holds, under the new key."""
    worker = store(opened, key, OLD, NEW)
    grant = store(opened, OLD).add(new_grant())
    claim = claimed(worker, grant)
    batches = reseal.reseal(opened, Interrupted(lambda: worker.save(grant, claim, token_set(1))))
    assert totals(batches) == ((1, 0, 0) if key is OLD else (0, 1, 0))
    assert loaded(store(opened, NEW), grant.id).tokens == token_set(1)


def test_without_the_guard_the_save_would_be_lost(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a write by the id alone puts the spent refresh token back."""

    def unguarded(seen: Any, sealed: bytes) -> Any:
        return update(grants).where(grants.c.id == seen.id).values(sealed=sealed)

    monkeypatch.setattr(reseal, "_write_back", unguarded)
    worker = store(opened, OLD)
    grant = worker.add(new_grant())
    claim = claimed(worker, grant)
    totals(reseal.reseal(opened, Interrupted(lambda: worker.save(grant, claim, token_set(1)))))
    row = loaded(store(opened, NEW), grant.id)
    assert row.token_version == 1
    assert row.tokens.access_token != token_set(1).access_token


def test_rotations_and_readers_go_on_meanwhile(opened: Database) -> None:
    """Two resealings, a worker that rotates and one that reads start together: nothing fails or is lost."""
    ids = [store(opened, OLD).add(new_grant()).id for _ in range(8)]
    worker, reader = store(opened, OLD, NEW), store(opened, NEW, OLD)
    done = threading.Event()

    def rotate() -> None:
        try:
            for number in range(1, 4):
                for grant_id in ids:
                    seen = loaded(worker, grant_id)
                    claim = claimed(worker, seen)
                    assert worker.save(seen, claim, token_set(number)) is SaveOutcome.SAVED
        finally:
            done.set()

    def reseal_until_done() -> None:
        while not done.is_set():
            totals(reseal.reseal(opened, BOTH, batch=3))

    def read_until_done() -> None:
        while not done.is_set():
            for grant_id in ids:
                loaded(reader, grant_id)

    at_once([rotate, reseal_until_done, reseal_until_done, read_until_done])
    assert totals(reseal.reseal(opened, BOTH))[2] == 0
    assert {loaded(store(opened, NEW), grant_id).tokens.access_token for grant_id in ids} == {
        token_set(3).access_token
    }


def test_the_fingerprint_of_a_value_is_its_keys() -> None:
    """A sealed value names the first key of the sealer that made it."""
    assert sealing.fingerprint_of(BOTH.seal(b"plain", ("x",))) == BOTH.fingerprints[0]


class TestSurvey:
    """What `doctor` learns from the database."""

    def test_it_finds_the_rows_that_no_key_opens(self, opened: Database) -> None:
        """Another worker's key shows by its fingerprint, and rows of ours do not."""
        lost_id = store(opened, LOST).add(new_grant()).id
        for _ in range(3):
            store(opened, OLD).add(new_grant())
        seen = survey(opened, BOTH, sample=10)
        assert (seen.sampled, [each.grant_id for each in seen.unreadable]) == (4, [lost_id])
        assert survey(opened, BOTH, sample=2).sampled == 2

    def test_it_compares_the_clocks(self, opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """The difference is small on one machine, and as large as it is made."""
        assert abs(survey(opened, BOTH, sample=1).clock_ahead) < 2.0
        wall_clock = time.time
        monkeypatch.setattr(time, "time", lambda: wall_clock() + 300.0)
        assert survey(opened, BOTH, sample=1).clock_ahead == pytest.approx(300.0, abs=2.0)
