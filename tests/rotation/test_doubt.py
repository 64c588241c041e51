"""What is unknown is called unknown, and the refresh token is posted at most once more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderUnavailable, SignInRequired
from flask_tokenrotate.rotation.protocol import SETTLE_AFTER_TIME_OUT
from flask_tokenrotate.rotation.verdict import Refused, Unknown, Verdict

from .processes import World, access

RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


def unavailable(world: World, grant_id: str) -> float:
    """Return after how many seconds a request may come again."""
    with pytest.raises(ProviderUnavailable) as caught:
        world.process().get(grant_id)
    return caught.value.retry_after


class TestTheReplay:
    """It comes once, after a pause, and never at once."""

    @pytest.mark.parametrize(
        ("verdict", "grace", "pause"),
        [
            (RESET, 0.0, "settle"),
            (TIMED_OUT, 0.0, SETTLE_AFTER_TIME_OUT),
            (TIMED_OUT, 17.0, "settle"),
        ],
        ids=["reset", "time-out", "time-out in a grace period"],
    )
    def test_it_waits_for_the_pause(
        self, world: World, verdict: Verdict, grace: float, pause: float | str
    ) -> None:
        """The one replay is not spent on a provider that still works on the first post, or hangs."""
        world.policy = replace(world.policy, grace=grace)
        seconds = world.policy.settle if isinstance(pause, str) else pause
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [verdict]
        assert unavailable(world, grant_id) == pytest.approx(seconds)
        assert (world.row(grant_id).doubts, world.row(grant_id).standing) == (1, None)
        world.clock.advance(seconds - 0.1)
        unavailable(world, grant_id)
        assert world.endpoint.posts == ["refresh-0"]
        world.clock.advance(0.1)
        assert access(world.process().get(grant_id)) == "access-2"
        assert world.row(grant_id).doubts == 0

    def test_the_ledger_calls_the_attempt_before_it_unknown(self, world: World) -> None:
        """The story of the grant has no redemption whose outcome is missing."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Unknown(cause="cut", http_status=200)]
        world.clock.advance(unavailable(world, grant_id))
        world.process().get(grant_id)
        story = [(row.slot, row.verdict) for row in world.store.ledger.values()]
        assert story == [(0, "unknown"), (1, "rotated")]
        assert next(iter(world.store.ledger.values())).http_status == 200

    def test_during_it_the_row_counts_the_first_attempt(self, world: World) -> None:
        """A crash in the middle of the replay leaves a row that allows no third attempt."""
        grant_id = world.sign_in(remaining=-1.0)
        counted = []

        def look() -> Verdict:
            counted.append(world.row(grant_id).doubts)
            return world.endpoint.rotated()

        world.endpoint.script = [RESET, look]
        world.clock.advance(unavailable(world, grant_id))
        world.process().get(grant_id)
        assert counted == [1]

    @pytest.mark.parametrize("second", [RESET, REFUSED], ids=["reset", "refused"])
    def test_there_is_no_second_one(self, world: World, second: Verdict) -> None:
        """After it only a sign-in helps, and the row stays open: refused, it was only spent."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [RESET, second]
        world.clock.advance(unavailable(world, grant_id))
        for _ in range(2):
            with pytest.raises(SignInRequired) as caught:
                world.process().get(grant_id)
            assert caught.value.reason == "outcome_unknown"
            world.clock.advance(1000.0)
        assert world.endpoint.posts == ["refresh-0"] * 2
        row = world.row(grant_id)
        assert (row.end_reason, row.doubts, row.standing) == (None, 2, None)

    def test_a_refused_first_post_ends_the_grant(self, world: World) -> None:
        """The control: there the refusal says that nobody else has a successor."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [REFUSED]
        with pytest.raises(SignInRequired) as caught:
            world.process().get(grant_id)
        assert caught.value.reason == world.row(grant_id).end_reason == "refused"

    def test_where_the_profile_says_reauthorize_there_is_none(self, world: World) -> None:
        """Nobody waits out the deadline of a holder that knows its call had no response."""
        world.policy = replace(world.policy, on_unknown="reauthorize")
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [RESET]
        for each in (world.process(), world.process()):
            with pytest.raises(SignInRequired) as caught:
                each.get(grant_id)
            assert caught.value.reason == "outcome_unknown"
        assert world.clock.sleeps == []
        assert world.endpoint.posts == ["refresh-0"]
        assert world.row(grant_id).end_reason is None


class TestLateWinner:
    """A holder that was only stopped saves what it has."""

    def test_it_heals_a_grant_in_doubt(self, world: World) -> None:
        """The row stays open for it."""
        world.policy = replace(world.policy, on_unknown="reauthorize")
        grant_id = world.sign_in(remaining=-1.0)
        late = world.claim_elsewhere(grant_id)
        world.clock.advance(world.timing.claim)
        with pytest.raises(SignInRequired):
            world.process().get(grant_id)
        world.save_elsewhere(late)
        assert access(world.process().get(grant_id)) == "access-elsewhere"

    def test_it_heals_a_grant_whose_replay_was_refused(self, world: World) -> None:
        """The refusal of the replay was about the post that this holder made."""
        grant_id = world.sign_in(remaining=-1.0)
        first, second = world.process(), world.process()

        def let_another_be_refused() -> Verdict:
            world.clock.advance(world.timing.claim + world.policy.settle)
            world.endpoint.script = [REFUSED]
            with pytest.raises(SignInRequired):
                second.get(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [let_another_be_refused]
        assert access(first.get(grant_id)) == "access-2"
        row = world.row(grant_id)
        assert (row.token_version, row.doubts, row.end_reason) == (1, 0, None)
        assert world.endpoint.revoked == []

    def test_a_refusal_after_it_has_saved_does_not_end_the_grant(self, world: World) -> None:
        """The holder that was refused goes on with what the late winner had saved meanwhile."""
        grant_id = world.sign_in(remaining=-1.0)
        late = world.claim_elsewhere(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)

        def refuse_when_the_late_winner_has_saved() -> Verdict:
            world.save_elsewhere(late)
            return REFUSED

        world.endpoint.script = [refuse_when_the_late_winner_has_saved]
        assert access(world.process().get(grant_id)) == "access-elsewhere"
        row = world.row(grant_id)
        # Nobody has posted the new refresh token yet: what the old one met says nothing of it.
        assert (row.end_reason, row.standing, row.doubts, row.retry_at) == (None, None, 0, None)


class TestDeadline:
    """What a holder may do, and what others do without it."""

    def test_a_dead_holder_is_replaced_after_deadline_and_settling(self, world: World) -> None:
        """The waiting request itself replays, and not before the settling time is over."""
        grant_id = world.sign_in(remaining=-1.0)
        began = world.clock.monotonic()
        world.claim_elsewhere(grant_id)
        assert access(world.process().get(grant_id)) == "access-1"
        waited = world.clock.monotonic() - began
        assert waited == pytest.approx(world.timing.claim + world.policy.settle)

    @pytest.mark.parametrize(("late", "claims"), [(0.0, 1), (0.001, 2)], ids=["just in time", "too late"])
    def test_a_holder_posts_only_while_enough_of_its_claim_is_left(
        self, world: World, late: float, claims: int
    ) -> None:
        """A process that was stopped after its claim gives it up unspent and takes a new one."""
        grant_id = world.sign_in(remaining=-1.0)

        def claim_slowly(try_claim: Any, *args: Any, **options: Any) -> Any:
            claim = try_claim(*args, **options)
            world.clock.advance(world.timing.claim - world.timing.redeem + late)
            return claim

        world.store.once("try_claim", claim_slowly)
        world.process().get(grant_id)
        assert world.endpoint.posts == ["refresh-0"]
        assert world.notified.names.count("claimed") == claims
        assert [row.slot for row in world.store.ledger.values()] == [None, 0][-claims:]
