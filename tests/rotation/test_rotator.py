"""What the rotator does with each answer, each race and each failure."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import (
    GrantUnreadable,
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    SignInRequired,
    StoreUnavailable,
)
from flask_tokenrotate.rotation.ports import EVENTS
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.rescue import Rescuer
from flask_tokenrotate.rotation.rotator import YOUNG
from flask_tokenrotate.rotation.tokens import Grant, Secret
from flask_tokenrotate.rotation.verdict import (
    Busy,
    Misconfigured,
    NotSent,
    Refused,
    Rotated,
    Unknown,
    Verdict,
)

from .processes import LIFETIME, World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")
THREADS = 8
PATIENCE = 10.0
"""Seconds until a test that hangs fails."""


@pytest.fixture
def world() -> World:
    return World()


class TestUse:
    """A token that is fresh costs nobody anything."""

    def test_a_fresh_token_comes_from_the_row_and_then_from_the_cache(self, world: World) -> None:
        """The provider is not asked, the row once."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        world.store.calls.clear()
        found = [rotator.fresh(grant_id) for _ in range(3)]
        assert [fresh.origin for fresh in found] == ["row", "cache", "cache"]
        assert world.store.calls == ["load"]
        assert world.endpoint.posts == []

    def test_a_cached_token_that_has_run_out_is_not_used(self, world: World) -> None:
        """Expiry by the clock is seen on each hit, whatever the cache keeps."""
        grant_id = world.sign_in(remaining=40.0)
        rotator = world.process(cache_seconds=1000.0)
        assert access(rotator.fresh(grant_id)) == "access-0"
        world.clock.advance(20.0)
        assert access(rotator.fresh(grant_id)) == "access-1"

    def test_a_grant_that_is_not_there_needs_a_sign_in(self, world: World) -> None:
        """An id without a row is answered like a grant that has ended."""
        with pytest.raises(SignInRequired) as caught:
            world.process().fresh("nothing")
        assert (caught.value.provider, caught.value.reason) == (None, "no_grant")


class TestRotated:
    """A dead token is redeemed once and saved."""

    def test_a_dead_token_is_redeemed_once_for_all_processes(self, world: World) -> None:
        """The row has the new token set, and the next process finds it there."""
        grant_id = world.sign_in(remaining=-1.0)
        first, second = world.process().fresh(grant_id), world.process().fresh(grant_id)
        assert (access(first), first.origin) == ("access-1", "rotated")
        assert (access(second), second.origin) == ("access-1", "row")
        assert world.endpoint.posts == ["refresh-0"]
        assert world.row(grant_id).token_version == 1
        assert world.row(grant_id).standing is None

    def test_the_lifetime_counts_from_before_the_request_left(self, world: World) -> None:
        """A slow answer does not make the token seem younger than it is."""
        grant_id = world.sign_in(remaining=-1.0)

        def slowly() -> Verdict:
            world.clock.advance(6.0)
            return world.endpoint.rotated()

        world.endpoint.script = [slowly]
        fresh = world.process().fresh(grant_id)
        assert fresh.tokens.remaining(world.clock.time()) == pytest.approx(LIFETIME - 6.0)

    def test_a_changed_scope_is_saved_first_and_told_then(self, world: World) -> None:
        """The token set is in the row, and listeners hear what changed."""
        grant_id = world.sign_in(remaining=-1.0, scopes=frozenset({"a", "b"}))
        world.endpoint.script = [lambda: world.endpoint.rotated(scopes=frozenset({"a"}))]
        world.process().fresh(grant_id)
        assert world.row(grant_id).tokens.scopes == {"a"}
        assert world.heard.events[-1] == ("scopes_changed", {"before": ["a", "b"], "now": ["a"]})

    def test_an_odd_answer_is_saved_and_complained_about(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A complaint of the parser never costs the token set."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [
            lambda: replace(world.endpoint.rotated(), complaints=("expires_in is no number",))
        ]
        assert access(world.process().fresh(grant_id)) == "access-1"
        assert "expires_in is no number" in caplog.text


class TestRefused:
    """A refusal is believed of the stored token set only."""

    def test_a_refusal_ends_the_grant_and_nobody_asks_again(self, world: World) -> None:
        """The user has to sign in, here and in every other process."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [REFUSED]
        for process in (world.process(), world.process()):
            with pytest.raises(SignInRequired) as caught:
                process.fresh(grant_id)
            assert caught.value.reason == "refused"
        assert world.endpoint.posts == ["refresh-0"]
        assert world.heard.names == ["claimed", "grant_ended"]

    def test_a_refusal_after_a_late_winner_saved_is_not_believed(self, world: World) -> None:
        """The holder that was refused goes on with what the late winner had saved meanwhile."""
        grant_id = world.sign_in(remaining=-1.0)
        late = world.claim_elsewhere(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)

        def refuse_when_the_late_winner_has_saved() -> Verdict:
            world.save_elsewhere(late)
            return REFUSED

        world.endpoint.script = [refuse_when_the_late_winner_has_saved]
        assert access(world.process().fresh(grant_id)) == "access-elsewhere"
        assert world.row(grant_id).end_reason is None
        assert world.row(grant_id).standing is None

    def test_a_late_winner_of_a_refused_grant_does_not_revive_it(self, world: World) -> None:
        """A newer claim was refused: the late token set is neither saved nor revoked."""
        grant_id = world.sign_in(remaining=-1.0)
        first, second = world.process(), world.process()

        def let_another_be_refused() -> Verdict:
            world.clock.advance(world.timing.claim + world.policy.settle)
            world.endpoint.script = [REFUSED]
            with pytest.raises(SignInRequired):
                second.fresh(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [let_another_be_refused]
        with pytest.raises(SignInRequired) as caught:
            first.fresh(grant_id)
        assert caught.value.reason == "refused"
        assert world.row(grant_id).token_version == 0
        assert world.endpoint.revoked == []


class TestOutage:
    """A provider that is away costs nobody a session and is asked a bounded number of times."""

    @pytest.mark.parametrize(
        ("verdict", "failure"), [(BUSY, "busy"), (NotSent(cause="connection refused"), "not_sent")]
    )
    def test_a_provider_that_is_away_is_left_alone_for_a_while(
        self, world: World, verdict: Verdict, failure: str
    ) -> None:
        """All processes answer 503 without a call until the pause is over, then one asks again."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [verdict]
        for process in (world.process(), world.process()):
            with pytest.raises(ProviderUnavailable) as caught:
                process.fresh(grant_id)
            assert caught.value.retry_after == pytest.approx(world.timing.backoff)
        assert world.row(grant_id).failure == failure
        assert world.endpoint.posts == ["refresh-0"]
        world.clock.advance(world.timing.backoff)
        assert access(world.process().fresh(grant_id)) == "access-2"
        assert world.row(grant_id).failures == 0

    def test_a_token_that_still_lives_is_served_in_an_outage(self, world: World) -> None:
        """Shorter than `min_ttl` is better than nothing."""
        grant_id = world.sign_in(remaining=10.0)
        world.endpoint.script = [BUSY]
        rotator = world.process()
        assert [access(rotator.fresh(grant_id)) for _ in range(3)] == ["access-0"] * 3
        assert world.endpoint.posts == ["refresh-0"]

    def test_each_failure_in_a_row_doubles_the_pause_up_to_the_limit(self, world: World) -> None:
        """An outage of an hour is a call a minute for each grant, not one for each request."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [BUSY] * 9
        pauses = []
        for _ in range(9):
            with pytest.raises(ProviderUnavailable) as caught:
                world.process().fresh(grant_id)
            pauses.append(round(caught.value.retry_after, 6))
            world.clock.advance(caught.value.retry_after)
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]

    @pytest.mark.parametrize(("jitter", "expected"), [(0.0, 0.75), (1.0, 1.25)])
    def test_pauses_are_spread(self, world: World, jitter: float, expected: float) -> None:
        """Grants that one outage hit at once do not come back at once."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [BUSY]
        with pytest.raises(ProviderUnavailable) as caught:
            world.process(jitter=jitter).fresh(grant_id)
        assert caught.value.retry_after == pytest.approx(expected)

    def test_a_provider_that_says_when_is_asked_then(self, world: World) -> None:
        """A `Retry-After` longer than the backoff counts."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Busy(cause="429", retry_after=90.0)]
        with pytest.raises(ProviderUnavailable) as caught:
            world.process().fresh(grant_id)
        assert caught.value.retry_after == pytest.approx(90.0)

    def test_a_refused_client_costs_no_grant(self, world: World) -> None:
        """The error names the provider's code, and the grant works when the client is mended."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Misconfigured(error="invalid_client", cure="check the secret")]
        with pytest.raises(ProviderMisconfigured) as caught:
            world.process().fresh(grant_id)
        assert caught.value.error == "invalid_client"
        assert caught.value.retry_after == pytest.approx(world.timing.misconfigured_pause)
        world.clock.advance(world.timing.misconfigured_pause)
        assert access(world.process().fresh(grant_id)) == "access-2"


class TestDoubt:
    """What is unknown is called unknown, and the refresh token is posted at most once more."""

    def test_a_holder_that_got_no_answer_replays_at_once(self, world: World) -> None:
        """The request succeeds without waiting for any deadline."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [RESET]
        assert access(world.process().fresh(grant_id)) == "access-2"
        assert world.endpoint.posts == ["refresh-0", "refresh-0"]
        assert world.row(grant_id).doubts == 0

    def test_the_ledger_calls_the_attempt_before_the_replay_unknown(self, world: World) -> None:
        """The story of the grant has no redemption whose outcome is missing."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Unknown(cause="cut", http_status=200)]
        world.process().fresh(grant_id)
        story = [(row.slot, row.verdict) for row in world.store.ledger.values()]
        assert story == [(0, "unknown"), (1, "rotated")]
        assert next(iter(world.store.ledger.values())).http_status == 200

    def test_while_it_replays_the_row_counts_the_first_attempt(self, world: World) -> None:
        """A crash in the middle of the replay leaves a row that allows no third attempt."""
        grant_id = world.sign_in(remaining=-1.0)
        counted = []

        def look() -> Verdict:
            counted.append(world.row(grant_id).doubts)
            return world.endpoint.rotated()

        world.endpoint.script = [RESET, look]
        world.process().fresh(grant_id)
        assert counted == [1]

    def test_there_is_no_second_replay(self, world: World) -> None:
        """After two attempts without an answer only a sign-in helps, and the row lives on."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [RESET, RESET]
        for _ in range(2):
            with pytest.raises(SignInRequired) as caught:
                world.process().fresh(grant_id)
            assert caught.value.reason == "outcome_unknown"
            world.clock.advance(1000.0)
        assert world.endpoint.posts == ["refresh-0"] * 2
        assert world.row(grant_id).end_reason is None
        assert world.row(grant_id).doubts == 2

    def test_after_a_time_out_the_replay_waits_for_the_pause(self, world: World) -> None:
        """The one replay is not spent on a provider that hangs; the doubt is in the row at once."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [TIMED_OUT]
        with pytest.raises(ProviderUnavailable):
            world.process().fresh(grant_id)
        assert world.endpoint.posts == ["refresh-0"]
        assert (world.row(grant_id).doubts, world.row(grant_id).standing) == (1, None)
        world.clock.advance(world.timing.claim - 0.1)
        with pytest.raises(ProviderUnavailable):
            world.process().fresh(grant_id)
        world.clock.advance(0.1)
        assert access(world.process().fresh(grant_id)) == "access-2"

    def test_a_short_grace_period_is_not_waited_out(self, world: World) -> None:
        """The replay after a time-out comes while the provider still takes it."""
        world.policy = replace(world.policy, grace=world.timing.redeem + world.timing.claim)
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [TIMED_OUT]
        with pytest.raises(ProviderUnavailable):
            world.process().fresh(grant_id)
        world.clock.advance(world.timing.backoff)
        assert access(world.process().fresh(grant_id)) == "access-2"

    def test_where_the_profile_says_reauthorize_the_doubt_is_written_at_once(self, world: World) -> None:
        """Nobody waits out the deadline of a holder that knows its call had no answer."""
        world.policy = replace(world.policy, on_unknown="reauthorize")
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [RESET]
        for process in (world.process(), world.process()):
            with pytest.raises(SignInRequired) as caught:
                process.fresh(grant_id)
            assert caught.value.reason == "outcome_unknown"
        assert world.clock.sleeps == []
        assert world.endpoint.posts == ["refresh-0"]
        assert world.row(grant_id).end_reason is None

    def test_a_late_winner_heals_a_grant_in_doubt(self, world: World) -> None:
        """The row stays, so that a holder that was only stopped can still save."""
        world.policy = replace(world.policy, on_unknown="reauthorize")
        grant_id = world.sign_in(remaining=-1.0)
        late = world.claim_elsewhere(grant_id)
        world.clock.advance(world.timing.claim)
        with pytest.raises(SignInRequired):
            world.process().fresh(grant_id)
        world.save_elsewhere(late)
        assert access(world.process().fresh(grant_id)) == "access-elsewhere"

    def test_a_dead_holder_is_replaced_after_deadline_and_settling(self, world: World) -> None:
        """The waiting request itself replays, and not before the settling time is over."""
        grant_id = world.sign_in(remaining=-1.0)
        began = world.clock.monotonic()
        world.claim_elsewhere(grant_id)
        assert access(world.process().fresh(grant_id)) == "access-1"
        waited = world.clock.monotonic() - began
        assert waited == pytest.approx(world.timing.claim + world.policy.settle)

    def test_a_holder_does_not_post_when_its_claim_may_end_meanwhile(self, world: World) -> None:
        """A process that was stopped after its claim gives it up unspent and takes a new one."""
        grant_id = world.sign_in(remaining=-1.0)
        claim_once_slowly(world, world.timing.claim - world.timing.redeem + 0.001)
        world.process().fresh(grant_id)
        assert world.endpoint.posts == ["refresh-0"]
        assert world.heard.names == ["claimed", "claimed", "token_rotated"]

    def test_a_holder_posts_when_the_call_just_fits_into_its_claim(self, world: World) -> None:
        """At the edge the claim that was taken is used."""
        grant_id = world.sign_in(remaining=-1.0)
        claim_once_slowly(world, world.timing.claim - world.timing.redeem)
        world.process().fresh(grant_id)
        assert world.heard.names == ["claimed", "token_rotated"]


def claim_once_slowly(world: World, seconds: float) -> None:
    """Let ``seconds`` pass between the first claim's COMMIT and its answer."""
    try_claim = world.store.try_claim

    def slowly(*args: object, **rest: object) -> object:
        claim = try_claim(*args, **rest)  # type: ignore[arg-type]
        del world.store.try_claim
        world.clock.advance(seconds)
        return claim

    world.store.try_claim = slowly  # type: ignore[method-assign, assignment]


class TestWaiting:
    """Losers go on with the winner's token; they never post."""

    def test_a_loser_waits_and_gets_the_winners_token(self, world: World) -> None:
        """The row moves while it sleeps."""
        grant_id = world.sign_in(remaining=-1.0)
        claim = world.claim_elsewhere(grant_id)
        world.clock.meanwhile = [lambda: world.save_elsewhere(claim)]
        fresh = world.process().fresh(grant_id)
        assert (access(fresh), fresh.origin) == ("access-elsewhere", "waited")
        assert world.endpoint.posts == []
        assert world.heard.names == ["waited"]

    def test_who_loses_the_claim_reads_the_row_again(self, world: World) -> None:
        """A lost compare-and-set is no error: the winner's token is used."""
        grant_id = world.sign_in(remaining=-1.0)
        load = world.store.load

        def another_wins_after_this_read(wanted: str) -> object:
            seen = load(wanted)
            del world.store.load
            world.save_elsewhere(world.claim_elsewhere(grant_id))
            return seen

        world.store.load = another_wins_after_this_read  # type: ignore[method-assign, assignment]
        assert access(world.process().fresh(grant_id)) == "access-elsewhere"
        assert world.endpoint.posts == []

    def test_patience_ends_with_a_typed_error(self, world: World) -> None:
        """The error says how long this worker waited and when the claim will be settled."""
        world.timing = replace(world.timing, wait=4.0)
        grant_id = world.sign_in(remaining=-1.0)
        world.claim_elsewhere(grant_id)
        with pytest.raises(RotationTimeout) as caught:
            world.process().fresh(grant_id)
        assert caught.value.waited == 4.0
        assert caught.value.retry_after == pytest.approx(world.timing.claim - 4.0)

    def test_at_the_end_of_the_patience_a_living_token_is_better_than_an_error(self, world: World) -> None:
        """A token that is stale but alive is served when the winner is too slow."""
        world.timing = replace(world.timing, wait=4.0)
        grant_id = world.sign_in(remaining=20.0)
        world.claim_elsewhere(grant_id)
        assert access(world.process().fresh(grant_id)) == "access-0"

    def test_a_holder_that_comes_too_late_uses_what_was_saved(self, world: World) -> None:
        """However long it was stopped, it looks at the row before it gives up."""
        grant_id = world.sign_in(remaining=-1.0)

        def be_overtaken() -> Verdict:
            world.clock.advance(world.timing.claim + world.policy.settle + world.timing.wait)
            world.save_elsewhere(world.claim_elsewhere(grant_id))
            return world.endpoint.rotated()

        world.endpoint.script = [be_overtaken]
        assert access(world.process().fresh(grant_id)) == "access-elsewhere"


class TestThreads:
    """Of the threads of one process one works, the others share what it finds."""

    def storm(self, world: World, verdict: Callable[[], Verdict]) -> list[object]:
        """Let `THREADS` threads want one grant; the provider answers when all of them wait."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process(clock=SystemClock())
        waiting = threading.Semaphore(0)
        follow = rotator._follow

        def tell_and_follow(*args: object) -> object:
            waiting.release()
            return follow(*args)  # type: ignore[arg-type]

        def answer_when_all_wait() -> Verdict:
            for _ in range(THREADS - 1):
                assert waiting.acquire(timeout=PATIENCE)
            return verdict()

        rotator._follow = tell_and_follow  # type: ignore[method-assign, assignment]
        world.endpoint.script = [answer_when_all_wait]

        def want() -> object:
            try:
                return access(rotator.fresh(grant_id))
            except ProviderUnavailable as error:
                return error

        with ThreadPoolExecutor(THREADS) as pool:
            return [future.result(PATIENCE) for future in [pool.submit(want) for _ in range(THREADS)]]

    def test_all_threads_get_the_token_of_one_redemption(self, world: World) -> None:
        """One post for eight threads."""
        assert self.storm(world, world.endpoint.rotated) == ["access-1"] * THREADS
        assert world.endpoint.posts == ["refresh-0"]

    def test_waiters_share_a_failure_and_each_has_its_own_error(self, world: World) -> None:
        """None of the waiters asks the provider in turn, and no traceback is shared."""
        errors = self.storm(world, lambda: BUSY)
        assert all(isinstance(error, ProviderUnavailable) for error in errors)
        assert len({id(error) for error in errors}) == THREADS
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_flight_that_does_not_land_in_time_is_given_up(self, world: World) -> None:
        """A follower has a deadline of its own."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process()
        rotator._flights.join(grant_id)
        with pytest.raises(RotationTimeout):
            rotator.fresh(grant_id)
        assert world.clock.monotonic() >= world.timing.wait


class TestSignOut:
    """Sign-out wins."""

    def test_a_sign_out_ends_the_row_and_revokes(self, world: World) -> None:
        """The token is worth nothing here and there, and the cache does not bring it back."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        rotator.fresh(grant_id)
        assert rotator.sign_out(grant_id)
        assert world.endpoint.revoked == ["access-0"]
        with pytest.raises(SignInRequired) as caught:
            rotator.fresh(grant_id)
        assert caught.value.reason == "signed_out"

    def test_a_sign_out_during_a_redemption_revokes_what_it_brings(self, world: World) -> None:
        """The new tokens are never saved, and the request is sent to sign in."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator, other = world.process(), world.process()

        def sign_out_meanwhile() -> Verdict:
            assert other.sign_out(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [sign_out_meanwhile]
        with pytest.raises(SignInRequired) as caught:
            rotator.fresh(grant_id)
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
            world.process().fresh(grant_id)
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
        rotator = world.process()
        world.store.away = {"load"}
        with pytest.raises(StoreUnavailable):
            rotator.sign_out(grant_id)
        world.store.away = set()
        assert not rotator.sign_out(grant_id)
        assert world.endpoint.revoked == ["access-0"]

    def test_a_grant_that_nobody_can_read_is_signed_out_too(self, world: World) -> None:
        """Without the key the tokens cannot be revoked, but the row ends."""
        grant_id = world.sign_in(remaining=1000.0)

        def unreadable(wanted: str) -> object:
            raise GrantUnreadable(wanted, "old", ("new",))

        world.store.load = unreadable  # type: ignore[method-assign, assignment]
        assert world.process().sign_out(grant_id)
        assert world.row(grant_id).end_reason == "signed_out"

    def test_nobody_joins_a_flight_from_before_the_sign_out(self, world: World) -> None:
        """What that flight had read is not handed to a request that comes after."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        flight, _ = rotator._flights.join(grant_id)
        flight.result = world.process().fresh(grant_id)
        flight.landed.set()
        assert access(rotator.fresh(grant_id)) == "access-0"
        rotator.sign_out(grant_id)
        with pytest.raises(SignInRequired):
            rotator.fresh(grant_id)

    def test_an_ended_grant_is_never_cached(self, world: World) -> None:
        """Once a process has seen the end, its cache has nothing of the grant."""
        grant_id = world.sign_in(remaining=40.0)
        rotator = world.process(cache_seconds=1000.0)
        rotator.fresh(grant_id)
        world.store.end(grant_id, "signed_out")
        with pytest.raises(SignInRequired):
            rotator.fresh(grant_id, min_ttl=600.0)
        with pytest.raises(SignInRequired):
            rotator.fresh(grant_id)


class TestSaveFails:
    """A rotated token is never dropped."""

    def test_the_request_succeeds_and_the_token_is_saved_later(self, world: World) -> None:
        """The token in hand is used, kept, and saved when the database is back."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process()
        world.store.away = {"save"}
        assert access(rotator.fresh(grant_id)) == "access-1"
        assert world.clock.sleeps == list(world.timing.save_pauses)
        assert world.heard.names == ["claimed", "save_failed"]
        assert world.row(grant_id).token_version == 0
        world.store.away = set()
        world.clock.advance(5.0)
        assert access(rotator.fresh(grant_id)) == "access-1"
        assert access(world.process().fresh(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_one_grant_that_cannot_be_saved_does_not_keep_others_back(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each waiting token set is tried: the first one's row may be locked for long."""
        locked, free = (world.sign_in(remaining=-1.0) for _ in range(2))
        rotator = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        for grant_id in (locked, free):
            rotator.fresh(grant_id)
        world.store.away = set()
        save = type(world.store).save

        def save_but_one(store: Any, seen: Grant, *args: Any, **options: Any) -> Any:
            if seen.id == locked:
                raise StoreUnavailable("the row is locked")
            return save(store, seen, *args, **options)

        monkeypatch.setattr(type(world.store), "save", save_but_one)
        rotator.fresh(free)
        assert (world.row(locked).token_version, world.row(free).token_version) == (0, 1)

    def test_a_save_is_tried_again_before_it_fails(self, world: World) -> None:
        """A database that is away for a moment costs nothing but that moment."""
        grant_id = world.sign_in(remaining=-1.0)
        world.store.away = {"save"}
        world.clock.meanwhile = [lambda: None, lambda: world.store.away.clear()]
        world.process().fresh(grant_id)
        assert world.row(grant_id).token_version == 1
        assert "save_failed" not in world.heard.names

    @pytest.mark.parametrize("way", ["fresh", "rotate_ahead"])
    def test_what_waits_to_be_saved_is_not_redeemed_again(self, world: World, way: str) -> None:
        """The row looks in doubt, but this process holds the successor, which a replay would kill."""
        grant_id = world.sign_in(remaining=100.0)
        rotator = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        rotator.rotate_ahead(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)
        if way == "rotate_ahead":
            rotator.rotate_ahead(grant_id)
        else:
            with pytest.raises(StoreUnavailable):
                rotator.fresh(grant_id)
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_process_that_overlooked_it_would_redeem_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: looking at the row alone posts the spent refresh token once more."""
        monkeypatch.setattr(Redeemer, "has_unsaved", lambda *_: False)
        monkeypatch.setattr(Rescuer, "take_up_for", lambda *_: False)
        grant_id = world.sign_in(remaining=100.0)
        rotator = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        rotator.rotate_ahead(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)
        rotator.rotate_ahead(grant_id)
        assert world.endpoint.posts == ["refresh-0"] * 2

    def test_whatever_interrupts_a_save_the_token_is_kept(self, world: World) -> None:
        """A time-out that gevent throws into the request is no reason to drop the only copy."""

        class Timeout(BaseException):
            pass

        def interrupted(*_: object, **__: object) -> object:
            del world.store.save
            raise Timeout

        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process()
        world.store.save = interrupted  # type: ignore[method-assign, assignment]
        with pytest.raises(Timeout):
            rotator.fresh(grant_id)
        assert access(rotator.fresh(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_unsaved_tokens_of_a_grant_signed_out_meanwhile_are_revoked(self, world: World) -> None:
        """The sign-out in the process that holds them finds them."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process()
        world.store.away = {"save"}
        rotator.fresh(grant_id)
        world.store.away = set()
        rotator.sign_out(grant_id)
        assert sorted(world.endpoint.revoked) == ["access-0", "access-1"]

    def test_tokens_that_cannot_be_revoked_yet_are_kept(self, world: World) -> None:
        """The database goes away between the end and the look at its reason."""
        grant_id = world.sign_in(remaining=-1.0)
        rotator = world.process()

        def sign_out_and_go_away() -> Verdict:
            world.store.end(grant_id, "signed_out")
            world.store.away = {"load"}
            return world.endpoint.rotated()

        world.endpoint.script = [sign_out_and_go_away]
        with pytest.raises(StoreUnavailable):
            rotator.fresh(grant_id)
        world.store.away = set()
        with pytest.raises(SignInRequired):
            rotator.fresh(grant_id)
        assert world.endpoint.revoked == ["access-1"]


class TestAhead:
    """In the ahead window one request rotates after its response, and nobody waits."""

    def test_one_request_is_asked_to_rotate_and_all_use_the_current_token(self, world: World) -> None:
        """The provider is not called while anyone waits."""
        grant_id = world.sign_in(remaining=100.0)
        rotator = world.process()
        found = [rotator.fresh(grant_id) for _ in range(3)]
        assert [fresh.rotate_ahead for fresh in found] == [True, False, False]
        assert {access(fresh) for fresh in found} == {"access-0"}
        assert world.endpoint.posts == []

    def test_rotating_ahead_replaces_the_token_for_the_next_request(self, world: World) -> None:
        """The cache has the new token at once."""
        grant_id = world.sign_in(remaining=100.0)
        rotator = world.process()
        rotator.fresh(grant_id)
        rotator.rotate_ahead(grant_id)
        assert (access(rotator.fresh(grant_id)), rotator.fresh(grant_id).origin) == ("access-1", "cache")

    def test_readers_do_not_wait_for_a_rotation_ahead(self, world: World) -> None:
        """Another request in the middle of it goes on with the current token."""
        grant_id = world.sign_in(remaining=100.0)
        rotator, found = world.process(cache_seconds=0.0), []

        def read_meanwhile() -> Verdict:
            found.append(access(rotator.fresh(grant_id)))
            rotator.rotate_ahead(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [read_meanwhile]
        rotator.rotate_ahead(grant_id)
        assert found == ["access-0"]
        assert world.clock.sleeps == []
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_token_that_is_fresh_again_is_not_rotated_ahead(self, world: World) -> None:
        """Between the request and the end of its response another process may have rotated."""
        grant_id = world.sign_in(remaining=100.0)
        world.process().rotate_ahead(grant_id)
        world.process().rotate_ahead(grant_id)
        assert world.endpoint.posts == ["refresh-0"]

    @pytest.mark.parametrize("away", ["load", "try_claim", "release"])
    def test_a_failure_ahead_is_logged_and_never_raised(
        self, world: World, caplog: pytest.LogCaptureFixture, away: str
    ) -> None:
        """The response was sent: there is nobody to tell but the log."""
        grant_id = world.sign_in(remaining=100.0)
        world.endpoint.script = [BUSY]
        world.store.away = {away}
        world.process().rotate_ahead(grant_id)
        assert "could not be rotated ahead" in caplog.text


class TestHealing:
    """A resource server refused the access token although the clock says that it lives."""

    def test_a_newer_token_in_the_row_is_used_without_a_redemption(self, world: World) -> None:
        """At providers that kill the old access token others have the new one already."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        old = rotator.fresh(grant_id)
        world.save_elsewhere(world.claim_elsewhere(grant_id))
        assert access(rotator.refused(old)) == "access-elsewhere"
        assert world.endpoint.posts == []

    def test_otherwise_it_is_redeemed_once_for_all(self, world: World) -> None:
        """The second request that was refused finds what the first one brought."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator, other = world.process(), world.process()
        old, same = rotator.fresh(grant_id), other.fresh(grant_id)
        assert access(rotator.refused(old)) == access(other.refused(same)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    @pytest.mark.parametrize(("age", "posts"), [(YOUNG - 0.001, 0), (YOUNG, 1)])
    def test_a_young_token_is_kept(self, world: World, age: float, posts: int) -> None:
        """A resource server that refuses everything does not cost a redemption for each request."""
        grant_id = world.sign_in(remaining=LIFETIME - age)
        rotator = world.process()
        fresh = rotator.fresh(grant_id)
        assert (rotator.refused(fresh) is fresh) == (posts == 0)
        assert len(world.endpoint.posts) == posts

    @pytest.mark.parametrize(("pause", "posts"), [(YOUNG - 0.001, 1), (YOUNG, 2)])
    def test_a_replacement_without_a_lifetime_is_kept_while_young(
        self, world: World, pause: float, posts: int
    ) -> None:
        """Where nothing tells when a token set was issued, the process knows which one it brought itself."""
        grant_id = world.sign_in(remaining=1000.0)
        row = world.row(grant_id)
        world.store.rows[grant_id] = replace(row, tokens=replace(row.tokens, lifetime=None, expires_at=None))
        world.endpoint.script = [lambda: world.endpoint.rotated(expires_in=None)] * 2
        rotator = world.process()
        replacement = rotator.refused(rotator.fresh(grant_id))
        assert replacement.tokens.lifetime is None
        world.clock.advance(pause)
        assert (rotator.refused(replacement) is replacement) == (posts == 1)
        assert len(world.endpoint.posts) == posts

    @pytest.mark.parametrize("at_least", [0, 1])
    def test_a_row_that_went_back_is_not_used_below_at_least(self, world: World, at_least: int) -> None:
        """A database restored from a copy gives a request no older token set than it has used already."""
        grant_id = world.sign_in(remaining=1000.0)
        if at_least == 0:
            assert world.process().fresh(grant_id, at_least=at_least).token_version == 0
            return
        with pytest.raises(StoreUnavailable, match="used already"):
            world.process().fresh(grant_id, at_least=at_least)

    def test_a_token_expired_by_hand_is_not_used_again(self, world: World) -> None:
        """What a caller learnt elsewhere is seen by this process at once and by others in the row."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        rotator.fresh(grant_id)
        rotator.expire(grant_id)
        assert access(rotator.fresh(grant_id)) == "access-1"

    def test_at_least_is_never_undercut_by_the_cache(self, world: World) -> None:
        """A request that has used a newer token does not get an older one that is still cached."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process(cache_seconds=1000.0)
        rotator.fresh(grant_id)
        world.save_elsewhere(world.claim_elsewhere(grant_id))
        assert access(rotator.fresh(grant_id)) == "access-0"
        assert access(rotator.fresh(grant_id, at_least=1)) == "access-elsewhere"


class TestFork:
    """A forked child does not wait for the parent's threads."""

    def test_a_child_forgets_the_parents_flights_and_cache(self, world: World) -> None:
        """A flight that was under way in the parent never lands in the child."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        rotator._flights.join(grant_id)
        with pytest.raises(RotationTimeout):
            rotator.fresh(grant_id)
        rotator._forget_parent()
        assert access(rotator.fresh(grant_id)) == "access-0"

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_forking_is_noticed(self, world: World) -> None:
        """The child of a real fork finds its token although the parent's flight has not landed."""
        grant_id = world.sign_in(remaining=1000.0)
        rotator = world.process()
        rotator._flights.join(grant_id)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if access(rotator.fresh(grant_id)) == "access-0" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestWhatIsTold:
    """Observers and logs hear what happened, and never a secret."""

    def test_every_event_is_a_known_one(self, world: World) -> None:
        """The names that the rotator tells are those that the ports list, and each comes."""
        refused = world.sign_in(remaining=-1.0, scopes=frozenset({"a"}))
        rotator = world.process()
        world.endpoint.script = [BUSY]
        with pytest.raises(ProviderUnavailable):
            rotator.fresh(refused)
        world.clock.advance(60.0)
        world.endpoint.script = [lambda: world.endpoint.rotated(scopes=frozenset())]
        rotator.fresh(refused)
        claimed = world.sign_in(remaining=-1.0)
        world.claim_elsewhere(claimed)
        world.store.away = {"save"}
        rotator.fresh(claimed)
        world.store.away = set()
        rotator.sign_out(claimed)
        assert set(world.heard.names) == set(EVENTS)

    @pytest.mark.parametrize(
        "step",
        [None, BUSY, RESET, TIMED_OUT, REFUSED, Misconfigured(error="invalid_client", cure="mend it")],
        ids=["rotated", "busy", "reset", "timed out", "refused", "misconfigured"],
    )
    def test_no_secret_is_logged_raised_or_told(
        self, world: World, caplog: pytest.LogCaptureFixture, step: Verdict | None
    ) -> None:
        """Log, errors and facts of every outcome are free of tokens."""
        canary = "canary-7d1c"
        grant_id = world.sign_in(
            remaining=-1.0, access_token=Secret(f"{canary}-a"), refresh_token=Secret(f"{canary}-r")
        )
        tokens = {"access_token": Secret(f"{canary}-A"), "refresh_token": Secret(f"{canary}-R")}
        world.endpoint.script = [
            step or Rotated(response=replace(world.endpoint.rotated().response, **tokens))
        ]
        world.store.away = {"save"}
        said = []
        with caplog.at_level(logging.DEBUG):
            try:
                said.append(repr(world.process().fresh(grant_id)))
            except Exception as error:
                said += [str(error), repr(error), repr(vars(error))]
        assert canary not in " ".join([*said, caplog.text, repr(world.heard.events)])
