"""A token set that one process could not save is saved by the next one that meets the grant."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from flask_tokenrotate.errors import RescueFailed, StoreUnavailable
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets

from .processes import World, access


@pytest.fixture
def world() -> World:
    return World()


def rescued_by_a_process_that_is_gone(world: World) -> str:
    """Let a process redeem while nothing can be saved, and be gone; return the grant."""
    grant_id = world.sign_in(remaining=-1.0)
    world.store.away = {"save"}
    assert access(world.process().get(grant_id)) == "access-1"
    world.store.away = set()
    return grant_id


def test_another_process_saves_what_was_rescued(world: World) -> None:
    """No second post, no waiting for the claim's deadline, and nothing is left to save."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    assert access(world.process().get(grant_id)) == "access-1"
    assert world.endpoint.posts == ["refresh-0"]
    assert world.row(grant_id).token_version == 1
    assert world.rescue.kept == {}


def test_a_process_that_ignored_the_rescue_would_redeem_again(world: World) -> None:
    """The control: from the row alone the refresh token looks in doubt, and is replayed."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    world.clock.advance(world.timing.claim + world.policy.settle)
    with patch.object(UnsavedTokenSets, "save_rescued_of", lambda *_: False):
        world.process().get(grant_id)
    assert world.endpoint.posts == ["refresh-0", "refresh-0"]


def test_the_process_itself_saves_first_and_removes_the_copy(world: World) -> None:
    """A holder that lives on saves from its memory; the copy goes only with that save."""
    grant_id = world.sign_in(remaining=-1.0)
    process = world.process(cache_seconds=0.0)
    world.store.away = {"save"}
    process.get(grant_id)
    assert len(world.rescue.kept) == 1
    world.store.away = set()
    assert access(process.get(grant_id)) == "access-1"
    assert (world.row(grant_id).token_version, world.rescue.kept) == (1, {})


def test_another_process_saves_what_is_still_being_tried(world: World) -> None:
    """Trying to save may outlast the claim: meanwhile the copy keeps others from a replay."""
    grant_id = world.sign_in(remaining=-1.0)
    seen = []

    def another_process() -> None:
        world.store.away.clear()
        world.clock.advance(world.timing.claim + world.policy.settle)
        seen.append(access(world.process().get(grant_id)))

    world.store.away = {"save"}
    world.clock.meanwhile = [another_process]
    assert access(world.process().get(grant_id)) == "access-1"
    assert (seen, world.endpoint.posts) == (["access-1"], ["refresh-0"])
    assert (world.row(grant_id).token_version, world.rescue.kept) == (1, {})


def test_a_save_that_succeeds_at_last_leaves_no_copy(world: World) -> None:
    """The copy is there from the first failure on, and goes with the save."""
    grant_id = world.sign_in(remaining=-1.0)
    copies = []

    def database_comes_back() -> None:
        copies.append(len(world.rescue.kept))
        world.store.away.clear()

    world.store.away = {"save"}
    world.clock.meanwhile = [database_comes_back]
    process = world.process(cache_seconds=0.0)
    process.get(grant_id)
    assert (copies, world.row(grant_id).token_version, world.rescue.kept) == ([1], 1, {})
    assert access(process.get(grant_id)) == "access-1"


def test_what_is_found_twice_is_saved_once(world: World) -> None:
    """Two processes that read it at once: the second save changes nothing, not even the version."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    found = list(world.rescue.waiting(grant_id))
    assert world.process().rescue() == (1, [])
    before = world.row(grant_id)
    with patch.object(world.rescue, "waiting", lambda _: found):
        assert world.process().rescue() == (1, [])
    assert world.row(grant_id) == before


def test_a_rescue_that_cannot_be_saved_yet_is_not_replayed(world: World) -> None:
    """Who finds the successor but no database to save it to must not spend the old refresh token again."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    world.clock.advance(world.timing.claim + world.policy.settle)
    world.store.away = {"save"}
    with pytest.raises(StoreUnavailable):
        world.process().get(grant_id)
    assert world.endpoint.posts == ["refresh-0"]
    assert len(world.rescue.kept) == 1


def test_a_sign_out_revokes_what_was_rescued(world: World) -> None:
    """The tokens that wait in the rescue are revoked with the stored ones, and never saved."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    world.process().sign_out(grant_id)
    assert "access-1" in world.endpoint.revoked
    assert world.row(grant_id).token_version == 0
    assert world.rescue.kept == {}


def test_a_rescue_that_fails_leaves_the_token_in_memory(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk on top of it is logged by name; the request is served, and the token saved later."""
    grant_id = world.sign_in(remaining=-1.0)
    process = world.process(cache_seconds=0.0)
    world.store.away = {"save"}

    def full(unsaved: Any) -> None:
        raise RescueFailed("/folder", "No space left on device")

    with patch.object(world.rescue, "put", full):
        assert access(process.get(grant_id)) == "access-1"
    assert "kept in memory only" in caplog.text
    assert "No space left on device" in caplog.text
    world.store.away = set()
    assert access(process.get(grant_id)) == "access-1"
    assert world.row(grant_id).token_version == 1


def test_a_rescue_that_cannot_be_read_is_logged_and_left(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The grant goes on as in doubt; the error says which file and why."""
    grant_id = rescued_by_a_process_that_is_gone(world)
    unreadable = RescueFailed("/folder/file", "it does not open")
    world.clock.advance(world.timing.claim + world.policy.settle)
    with patch.object(world.rescue, "waiting", lambda _: [unreadable]):
        world.process().get(grant_id)
        assert world.process().rescue() == (0, [unreadable])
    assert "/folder/file" in caplog.text
    assert len(world.rescue.kept) == 1


def test_a_healthy_grant_costs_no_look_for_a_rescue(world: World) -> None:
    """Without a claim, a doubt or an end on the row nobody looks."""
    grant_id = world.sign_in(remaining=1000.0)
    with patch.object(world.rescue, "waiting", side_effect=AssertionError):
        assert access(world.process().get(grant_id)) == "access-0"
