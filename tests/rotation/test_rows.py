"""Reading rows: what is not in them yet, and what a database that was away means for a claim."""

from __future__ import annotations

from typing import Any

import pytest

from flask_tokenrotate.errors import RotationTimeout, StoreUnavailable
from flask_tokenrotate.rotation.rows import Rows

from .processes import World, access


@pytest.fixture
def world() -> World:
    return World()


def the_database_was_away(world: World, grant_id: str) -> Any:
    """Let a claim's deadline pass while the database is away, and come back; return a process that saw it."""
    process = world.process(cache_seconds=0.0)
    world.claim_elsewhere(grant_id)
    world.store.away = {"load"}
    world.clock.advance(world.timing.claim + world.policy.settle + 20.0)
    with pytest.raises(StoreUnavailable):
        process.get(grant_id)
    world.store.away = set()
    return process


class TestAfterTheDatabaseWasAway:
    """A holder could not renew its claim meanwhile."""

    def test_a_deadline_that_passed_is_no_doubt_until_a_claims_length_later(self, world: World) -> None:
        """The holder has that long to renew, or to save what it has."""
        grant_id = world.sign_in(remaining=-1.0)
        process = the_database_was_away(world, grant_id)
        world.clock.advance(world.timing.claim - 0.1)
        with pytest.raises(RotationTimeout):
            process.get(grant_id)
        assert world.endpoint.posts == []

    def test_then_it_is_one(self, world: World) -> None:
        """A holder that is dead is replaced, after settling as ever."""
        grant_id = world.sign_in(remaining=-1.0)
        process = the_database_was_away(world, grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)
        assert access(process.get(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_by_the_row_alone_it_would_be_one_at_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: the refresh token is replayed while its holder waits for the response."""
        monkeypatch.setattr(Rows, "_with_time_to_renew", lambda rows, grant, at: grant)
        grant_id = world.sign_in(remaining=-1.0)
        process = the_database_was_away(world, grant_id)
        process.get(grant_id)
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_claim_that_stands_longer_is_left_alone(self, world: World) -> None:
        """Only what is too short is moved."""
        grant_id = world.sign_in(remaining=-1.0)
        process = the_database_was_away(world, grant_id)
        row = world.row(grant_id)
        other = world.sign_in(remaining=3600.0)
        world.store.rows[other] = row = world.row(other)
        world.claim_elsewhere(other, seconds=500.0)
        assert row.standing is None
        standing = process.rotation.ahead._rows.load(other).grant.standing
        assert standing.deadline == world.row(other).standing.deadline  # type: ignore[union-attr]

    def test_a_row_without_a_claim_is_as_it_is(self, world: World) -> None:
        """There is no deadline to move."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.store.away = {"load"}
        with pytest.raises(StoreUnavailable):
            process.get(grant_id)
        world.store.away = set()
        assert access(process.get(grant_id)) == "access-1"


class TestExamine:
    """A row that was read elsewhere."""

    def test_it_is_taken_as_it_was_found(self, world: World) -> None:
        """No read more; and as it was then, however long its process was stopped since."""
        grant_id = world.sign_in(remaining=1000.0)
        rows = world.process().rotation.ahead._rows
        found = world.store.load(grant_id)
        world.store.calls.clear()
        at = world.clock.monotonic()
        world.clock.advance(40.0)
        seen = rows.examine(grant_id, found, at)
        assert (seen.grant, seen.at, world.store.calls) == (found, at, [])

    def test_not_when_something_was_saved_just_now(self, world: World) -> None:
        """What was saved is not in a row that was read before."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.store.away = {"save"}
        process.get(grant_id)
        found = world.store.load(grant_id)
        world.store.away = set()
        assert found is not None
        assert found.token_version == 0
        examined = process.rotation.ahead._rows.examine(grant_id, found, world.clock.monotonic())
        assert examined.grant.token_version == 1
