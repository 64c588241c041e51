"""Who does not redeem goes on with the token set of who does: losers never post."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.errors import RotationTimeout, SignInRequired
from flask_tokenrotate.rotation.asking import _Step
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import Verdict

from .processes import LIFETIME, LaterThreads, World, access


@pytest.fixture
def world() -> World:
    return World()


class TestWaitingForAnotherProcess:
    """Losers go on with the winner's token; they never post."""

    def test_a_loser_waits_and_gets_the_winners_token(self, world: World) -> None:
        """The row moves while it sleeps; nothing of that is an event."""
        grant_id = world.sign_in(remaining=-1.0)
        claim = world.claim_elsewhere(grant_id)
        world.clock.meanwhile = [lambda: world.save_elsewhere(claim)]
        fresh = world.process().get(grant_id)
        assert (access(fresh), fresh.origin) == ("access-elsewhere", "waited")
        assert world.endpoint.posts == []
        assert world.notified.names == []

    def test_who_loses_the_claim_uses_what_the_lost_claim_found(self, world: World) -> None:
        """A lost compare-and-set is no error, and costs no read more."""
        grant_id = world.sign_in(remaining=-1.0)

        def another_wins_after_this_read(load: Any, wanted: str) -> Any:
            seen = load(wanted)
            world.save_elsewhere(world.claim_elsewhere(grant_id))
            return seen

        world.store.once("load", another_wins_after_this_read)
        world.store.calls.clear()
        assert access(world.process().get(grant_id)) == "access-elsewhere"
        assert world.endpoint.posts == []
        assert world.store.calls.count("load") <= 1

    def test_the_waiting_ends_with_a_typed_error(self, world: World) -> None:
        """The error says how long this request waited and when the claim will be settled."""
        world.wait_seconds = 4.0
        grant_id = world.sign_in(remaining=-1.0)
        world.claim_elsewhere(grant_id)
        with pytest.raises(RotationTimeout) as caught:
            world.process().get(grant_id)
        assert caught.value.waited == 4.0
        assert caught.value.retry_after == pytest.approx(world.timing.claim - 4.0)

    @pytest.mark.parametrize("remaining", [20.0, -1.0], ids=["valid", "expired"])
    def test_who_comes_later_does_not_wait(self, world: World, remaining: float) -> None:
        """It gets the old token while that is valid, and an error after."""
        grant_id = world.sign_in(remaining=remaining)
        world.claim_elsewhere(grant_id, seconds=60.0)
        world.clock.advance(world.wait_seconds)
        began = world.clock.monotonic()
        if remaining > 0:
            assert access(world.process().get(grant_id)) == "access-0"
        else:
            with pytest.raises(RotationTimeout) as caught:
                world.process().get(grant_id)
            assert caught.value.retry_after == pytest.approx(60.0 - world.wait_seconds)
        assert world.clock.monotonic() == began

    def test_at_the_end_of_the_waiting_a_valid_token_is_better_than_an_error(self, world: World) -> None:
        """A token below `min_ttl` is served when the winner is too slow."""
        world.wait_seconds = 4.0
        grant_id = world.sign_in(remaining=20.0)
        world.claim_elsewhere(grant_id)
        assert access(world.process().get(grant_id)) == "access-0"

    def test_a_holder_that_comes_too_late_uses_what_was_saved(self, world: World) -> None:
        """However long it was stopped, it looks at the row before it gives up."""
        grant_id = world.sign_in(remaining=-1.0)

        def be_overtaken() -> Verdict:
            world.clock.advance(world.timing.claim + world.policy.settle + world.wait_seconds)
            world.save_elsewhere(world.claim_elsewhere(grant_id))
            return world.endpoint.rotated()

        world.endpoint.script = [be_overtaken]
        assert access(world.process().get(grant_id)) == "access-elsewhere"

    def test_a_dead_holders_old_claim_does_not_count_as_waiting(self, world: World) -> None:
        """Who finds a claim of an hour ago replays at once."""
        grant_id = world.sign_in(remaining=-1.0)
        world.claim_elsewhere(grant_id)
        world.clock.advance(3600.0)
        assert access(world.process().get(grant_id)) == "access-1"


class TestIssuedSinceTheRequestBegan:
    """Nothing fresher is to be had."""

    def test_it_satisfies_the_request_although_below_min_ttl(self, world: World) -> None:
        """The winner's token lives shorter than this request asked for."""
        grant_id = world.sign_in(remaining=-1.0)
        claim = world.claim_elsewhere(grant_id)
        world.clock.meanwhile = [lambda: self.save_a_short_one(world, claim)]
        fresh = world.process().get(grant_id)
        assert (access(fresh), world.endpoint.posts) == ("access-elsewhere", [])
        assert fresh.until == pytest.approx(world.clock.monotonic() + 10.0)

    def test_held_to_min_ttl_it_would_be_rotated_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control."""
        monkeypatch.setattr(_Step, "has_begun_before", lambda *_: False)
        grant_id = world.sign_in(remaining=-1.0)
        claim = world.claim_elsewhere(grant_id)
        world.clock.meanwhile = [lambda: self.save_a_short_one(world, claim)]
        assert access(world.process().get(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-elsewhere"]

    def test_one_that_was_there_before_does_not(self, world: World) -> None:
        """The next request, which finds the same row, has it rotated."""
        grant_id = world.sign_in(remaining=-1.0)
        self.save_a_short_one(world, world.claim_elsewhere(grant_id))
        assert access(world.process().get(grant_id)) == "access-1"

    def test_not_when_its_grant_has_ended_since(self, world: World) -> None:
        """The user signed out between the winner's save and this request's look."""
        grant_id = world.sign_in(remaining=-1.0)
        claim = world.claim_elsewhere(grant_id)

        def save_and_sign_out() -> None:
            world.save_elsewhere(claim)
            world.process().sign_out(grant_id)

        world.clock.meanwhile = [save_and_sign_out]
        with pytest.raises(SignInRequired) as caught:
            world.process().get(grant_id)
        assert caught.value.reason == "signed_out"

    def save_a_short_one(self, world: World, claim: Any) -> None:
        """Save a token set of the winner's that was issued long ago: its call took that long."""
        row = world.row(claim.grant_id)
        now = world.clock.time()
        tokens = replace(
            row.tokens,
            access_token=Secret("access-elsewhere"),
            refresh_token=Secret("refresh-elsewhere"),
            expires_at=now + 10.0,
            lifetime=LIFETIME,
        )
        world.store.save(row, claim, tokens)


def test_what_a_lost_claim_found_is_no_news_to_who_has_read_the_row_since(world: World) -> None:
    """The process was stopped before the flight landed; meanwhile the token set that it found was refused."""
    grant_id = world.sign_in(remaining=-1.0)
    threads = LaterThreads()
    process = world.process(threads=threads, cache_seconds=0.0)
    flight = process.start(grant_id)
    land = process.flights._land
    found: list[str] = []

    def refuse_before_it_lands(landing: Any) -> None:
        process.flights._land = land  # type: ignore[method-assign]
        world.clock.advance(40.0)
        world.store.expire(grant_id, 1)
        world.clock.meanwhile = [lambda: land(flight), threads.work]
        found.append(access(process.get(grant_id)))

    process.flights._land = refuse_before_it_lands  # type: ignore[method-assign]
    world.save_elsewhere(world.claim_elsewhere(grant_id))
    threads.work()
    assert found == ["access-1"]
