"""Sign-out takes precedence."""

from __future__ import annotations

import pytest

from flask_tokenrotate.errors import GrantUnreadable, SignInRequired, StoreUnavailable
from flask_tokenrotate.rotation.verdict import Busy, Refused, Unknown, Verdict

from .processes import World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


class TestSignOut:
    """Sign-out wins."""

    def test_a_sign_out_ends_the_row_and_revokes(self, world: World) -> None:
        """The token is worth nothing here and there, and the cache does not bring it back."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        process.get(grant_id)
        assert process.sign_out(grant_id)
        assert world.endpoint.revoked == ["access-0"]
        with pytest.raises(SignInRequired) as caught:
            process.get(grant_id)
        assert caught.value.reason == "signed_out"

    def test_a_sign_out_during_a_redemption_revokes_what_it_brings(self, world: World) -> None:
        """The new tokens are never saved, and the request is sent to sign in."""
        grant_id = world.sign_in(remaining=-1.0)
        process, other = world.process(), world.process()

        def sign_out_meanwhile() -> Verdict:
            assert other.sign_out(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [sign_out_meanwhile]
        with pytest.raises(SignInRequired) as caught:
            process.get(grant_id)
        assert caught.value.reason == "signed_out"
        assert world.endpoint.revoked == ["access-0", "access-1"]
        assert world.row(grant_id).token_version == 0

    def test_tokens_that_find_their_grant_replaced_are_left_alone(self, world: World) -> None:
        """At many providers revoking them would kill the family of the new sign-in too."""
        grant_id = world.sign_in(remaining=-1.0)

        def replace_meanwhile() -> Verdict:
            world.store.end(grant_id, "replaced")
            return world.endpoint.rotated()

        world.endpoint.script = [replace_meanwhile]
        with pytest.raises(SignInRequired):
            world.process().get(grant_id)
        assert world.endpoint.revoked == []

    def test_a_provider_that_is_down_does_not_keep_anyone_signed_in(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The row ends all the same, and the log tells an operator."""
        grant_id = world.sign_in(remaining=1000.0)
        world.endpoint.revokes = False
        assert world.process().sign_out(grant_id)
        assert world.row(grant_id).end_reason == "signed_out"
        assert "did not revoke" in caplog.text

    def test_a_sign_out_that_was_cut_off_revokes_when_it_is_called_again(self, world: World) -> None:
        """The row was ended, the database went away before the tokens were read."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        world.store.away = {"load"}
        with pytest.raises(StoreUnavailable):
            process.sign_out(grant_id)
        world.store.away = set()
        assert not process.sign_out(grant_id)
        assert world.endpoint.revoked == ["access-0"]

    def test_a_grant_that_nobody_can_read_is_signed_out_too(self, world: World) -> None:
        """Without the key the tokens cannot be revoked, but the row ends."""
        grant_id = world.sign_in(remaining=1000.0)

        def unreadable(wanted: str) -> object:
            raise GrantUnreadable(wanted, "old", ("new",))

        world.store.load = unreadable  # type: ignore[method-assign, assignment]
        assert world.process().sign_out(grant_id)
        assert world.row(grant_id).end_reason == "signed_out"

    def test_nobody_joins_a_look_from_before_the_sign_out(self, world: World) -> None:
        """What that look had read is not handed to a request that comes after."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        look, _ = process.tokens._looks.join(grant_id)
        look.result = world.process().get(grant_id)
        look.done.set()
        assert access(process.get(grant_id)) == "access-0"
        process.sign_out(grant_id)
        with pytest.raises(SignInRequired):
            process.get(grant_id)

    def test_an_ended_grant_is_never_cached(self, world: World) -> None:
        """Once a process has seen the end, its cache has nothing of the grant."""
        grant_id = world.sign_in(remaining=40.0)
        process = world.process(cache_seconds=1000.0)
        process.get(grant_id)
        world.store.end(grant_id, "signed_out")
        with pytest.raises(SignInRequired):
            process.get(grant_id, min_ttl=600.0)
        with pytest.raises(SignInRequired):
            process.get(grant_id)
