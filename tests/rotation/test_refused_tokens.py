"""A resource server refused the access token although the clock says that it lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.refused_tokens import YOUNG
from flask_tokenrotate.rotation.verdict import Busy, Refused, Unknown

from .processes import LIFETIME, LaterThreads, World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


class TestHealing:
    """A resource server refused the access token although the clock says that it lives."""

    def test_a_newer_token_in_the_row_is_used_without_a_redemption(self, world: World) -> None:
        """At providers that kill the old access token others have the new one already."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        old = process.get(grant_id)
        world.save_elsewhere(world.claim_elsewhere(grant_id))
        assert access(process.refused(old)) == "access-elsewhere"
        assert world.endpoint.posts == []

    def test_otherwise_it_is_redeemed_once_for_all(self, world: World) -> None:
        """The second request that was refused finds what the first one brought."""
        grant_id = world.sign_in(remaining=1000.0)
        process, other = world.process(), world.process()
        old, same = process.get(grant_id), other.get(grant_id)
        assert access(process.refused(old)) == access(other.refused(same)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    @pytest.mark.parametrize(("age", "posts"), [(YOUNG - 0.001, 0), (YOUNG, 1)])
    def test_a_young_token_is_kept(self, world: World, age: float, posts: int) -> None:
        """A resource server that refuses everything does not cost a redemption for each request."""
        grant_id = world.sign_in(remaining=LIFETIME - age)
        process = world.process()
        fresh = process.get(grant_id)
        assert (process.refused(fresh) is fresh) == (posts == 0)
        assert len(world.endpoint.posts) == posts

    @pytest.mark.parametrize(("pause", "posts"), [(YOUNG - 0.001, 1), (YOUNG, 2)])
    def test_a_replacement_without_a_lifetime_is_kept_while_young(
        self, world: World, pause: float, posts: int
    ) -> None:
        """Where nothing says when a token set was issued, the process knows which one it brought itself."""
        grant_id = world.sign_in(remaining=1000.0)
        row = world.row(grant_id)
        world.store.rows[grant_id] = replace(row, tokens=replace(row.tokens, lifetime=None, expires_at=None))
        world.endpoint.script = [lambda: world.endpoint.rotated(expires_in=None)] * 2
        process = world.process()
        replacement = process.refused(process.get(grant_id))
        assert replacement.tokens.lifetime is None
        world.clock.advance(pause)
        assert (process.refused(replacement) is replacement) == (posts == 1)
        assert len(world.endpoint.posts) == posts

    def test_a_job_waits_for_the_end_of_the_redemption(self, world: World) -> None:
        """It has nobody to leave it to: no thread has anything of it when it returns."""
        grant_id = world.sign_in(remaining=1000.0)
        threads = LaterThreads()
        process = world.process(threads=threads)
        fresh = RequestMemo().refused(process.rotation.refused, process.get(grant_id), here=True)
        assert (access(fresh), threads.queued) == ("access-1", [])

    def test_a_token_expired_by_hand_is_not_used_again(self, world: World) -> None:
        """What a caller learnt elsewhere is seen by this process at once and by others in the row."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        process.get(grant_id)
        process.expire(grant_id)
        assert access(process.get(grant_id)) == "access-1"
