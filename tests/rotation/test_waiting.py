"""How long a request waits, and when it looks again."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from flask_tokenrotate.rotation.flight import Flight
from flask_tokenrotate.rotation.protocol import InDoubt, Wait
from flask_tokenrotate.rotation.rotation_times import FIRST_GUESS, RotationTimes
from flask_tokenrotate.rotation.sighting import Sighting
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret, StandingClaim, TokenSet
from flask_tokenrotate.rotation.waiting import LONGEST, NOT_NOTIFIED, PROBE_SECONDS, SHORTEST, Waiting, pauses
from flask_tokenrotate.testing import ManualClock
from flask_tokenrotate.testing.memory import MemoryWakeups

from .processes import a_policy

WAIT = 15.0
POLICY = a_policy()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def a_grant(clock: ManualClock, **changes: object) -> Grant:
    tokens = TokenSet(access_token=Secret("access"))
    return replace(Grant(id="g", provider="p", tokens=tokens, seen_at=clock.time()), **changes)  # type: ignore[arg-type]


def seen(clock: ManualClock, grant: Grant | None = None) -> Sighting:
    return Sighting(grant or a_grant(clock), clock.monotonic())


def waiting(
    clock: ManualClock, wait: float = WAIT, times: RotationTimes | None = None, *, without_end: bool = False
) -> Waiting:
    """A request that nobody notifies."""
    with MemoryWakeups(clock).watch("g") as watch:
        until = clock.monotonic() + wait
        return Waiting(clock, wait, times or RotationTimes(), watch, until=until, without_end=without_end)


def wait(clock: ManualClock, *, taken: float = 0.0, deadline: float = 10.0) -> Wait:
    """A claim taken ``taken`` seconds ago that stands for ``deadline`` seconds from now."""
    now = clock.time()
    claim = Claim(id="c", grant_id="g", version=1, redeems=0)
    return Wait(StandingClaim(claim=claim, holder="h", taken_at=now - taken, deadline=now + deadline))


def a_flight(clock: ManualClock, *, claimed_at: float | None, is_probe: bool = False) -> Flight:
    flight = Flight("g", clock.event())
    flight.claimed_at, flight.is_probe = claimed_at, is_probe
    return flight


class TestPauses:
    """When a request looks at the row by itself."""

    def test_the_first_look_comes_when_the_save_is_due(self) -> None:
        """A look before the winner has usually saved is a statement for nothing."""
        assert next(pauses(0.8, elapsed=0.5, notified=False)) == pytest.approx(0.3)
        assert next(pauses(0.8, elapsed=2.0, notified=False)) == SHORTEST

    def test_whoever_is_notified_looks_late(self) -> None:
        """The look of its own is for a notification that was lost, and not before one can have been."""
        assert next(pauses(0.8, elapsed=0.5, notified=True)) == pytest.approx(1.1 + NOT_NOTIFIED)

    def test_later_looks_come_ever_more_rarely_up_to_a_limit(self) -> None:
        """A slow rotation is polled a bounded number of times."""
        later = list(islice(pauses(0.4, elapsed=0.0, notified=False), 1, 12))
        assert later == sorted(later)
        assert later[0] == pytest.approx(0.1)
        assert later[-1] == LONGEST


class TestItsEnd:
    """``wait`` seconds after it began, and after the claim was taken."""

    def test_it_ends_at_its_moment(self, clock: ManualClock) -> None:
        """It is over at the moment itself, not a tick before."""
        request = waiting(clock)
        clock.advance(WAIT - 0.001)
        assert (request.is_over(seen(clock)), request.has_ended) == (False, False)
        clock.advance(0.001)
        assert (request.is_over(seen(clock)), request.has_ended) == (True, True)

    def test_it_counts_from_the_claim_that_stands(self, clock: ManualClock) -> None:
        """Who comes after most of the time is over waits for the rest, and who comes later not at all."""
        request = waiting(clock)
        standing = wait(clock, taken=WAIT - 1.0).standing
        row = seen(clock, a_grant(clock, standing=standing))
        assert not request.is_over(row)
        clock.advance(1.0)
        assert request.is_over(row)
        late = wait(clock, taken=WAIT).standing
        later = waiting(clock)
        assert later.is_over(seen(clock, a_grant(clock, standing=late)))
        assert not later.has_ended

    def test_a_request_sleeps_no_longer_than_it_may_wait(self, clock: ManualClock) -> None:
        """The last sleep ends when the waiting does."""
        waiting(clock, 0.05).sleep(seen(clock), wait(clock), POLICY)
        assert clock.monotonic() == pytest.approx(0.05)

    def test_a_request_sleeps_no_longer_than_the_claim_stands(self, clock: ManualClock) -> None:
        """The deadline is looked at when it comes, however slow the provider usually is."""
        times = RotationTimes()
        times.record("p", 5.0)
        waiting(clock, times=times).sleep(seen(clock), wait(clock, deadline=0.25), POLICY)
        assert clock.monotonic() == pytest.approx(0.25)


class TestAFlightOfThisProcess:
    """Waiting for an event instead of looking at the row."""

    @pytest.mark.parametrize(
        ("claimed_at", "left"), [(None, WAIT), (0.0, WAIT), (-5.0, WAIT - 5.0), (-WAIT, 0.0), (-99.0, 0.0)]
    )
    def test_it_is_waited_for_until_wait_seconds_after_its_claim(
        self, clock: ManualClock, claimed_at: float | None, left: float
    ) -> None:
        """A flight that has not claimed yet is waited for from now on."""
        assert not waiting(clock).until_landed(a_flight(clock, claimed_at=claimed_at))
        assert clock.monotonic() == pytest.approx(left)

    @pytest.mark.parametrize(("claimed_at", "left"), [(0.0, PROBE_SECONDS), (-0.75, 0.25), (-5.0, 0.0)])
    def test_a_probe_is_waited_for_a_second(self, clock: ManualClock, claimed_at: float, left: float) -> None:
        """It may hang as those before; however many come during it, none waits for a second of its own."""
        assert not waiting(clock).until_landed(a_flight(clock, claimed_at=claimed_at, is_probe=True))
        assert clock.monotonic() == pytest.approx(left)

    def test_one_that_has_landed_is_not_waited_for(self, clock: ManualClock) -> None:
        """Even when nothing of the waiting is left."""
        flight = a_flight(clock, claimed_at=-99.0)
        flight.landed.set()
        assert waiting(clock).until_landed(flight)
        assert clock.monotonic() == 0.0

    def test_without_end_it_is_waited_for_until_it_lands(self, clock: ManualClock) -> None:
        """A job has nobody to leave the rest to."""
        flight = a_flight(clock, claimed_at=0.0, is_probe=True)
        event, waits = flight.landed, []

        class LandsAtLast:
            """Set during the third wait."""

            def wait(self, timeout: float) -> bool:
                waits.append(timeout)
                if len(waits) == 3:
                    event.set()
                return event.wait(timeout)

        flight.landed = LandsAtLast()  # type: ignore[assignment]
        assert waiting(clock, without_end=True).until_landed(flight)
        assert len(waits) == 3


class TestWhileTheProviderIsAway:
    """Another process's claim may be its probe, and is waited for no longer than a probe."""

    def request(self, clock: ManualClock, *, without_end: bool = False) -> tuple[Waiting, set[str]]:
        """A request, and the names of the providers that count as away in its process."""
        away: set[str] = set()
        with MemoryWakeups(clock).watch("g") as watch:
            ends = {"until": WAIT, "without_end": without_end}
            return Waiting(clock, WAIT, RotationTimes(), watch, is_away=away.__contains__, **ends), away  # type: ignore[arg-type]

    def standing(self, clock: ManualClock, version: int = 1) -> Sighting:
        """A row whose claim was taken two seconds ago, longer than a probe is waited for."""
        found = wait(clock, taken=2.0).standing
        return seen(
            clock, a_grant(clock, standing=replace(found, claim=replace(found.claim, version=version)))
        )

    @pytest.mark.parametrize(("without_end", "is_over"), [(False, True), (True, False)])
    def test_the_claim_is_not_waited_for(self, clock: ManualClock, without_end: bool, is_over: bool) -> None:
        """Else each probe of one worker would hold a request of each other worker; a job has time."""
        request, away = self.request(clock, without_end=without_end)
        away.add("p")
        assert request.is_over(self.standing(clock)) is is_over

    def test_another_provider_does_not_count(self, clock: ManualClock) -> None:
        """What is away is none of its business."""
        request, away = self.request(clock)
        away.add("other")
        assert not request.is_over(self.standing(clock))

    def test_who_waits_already_goes_on(self, clock: ManualClock) -> None:
        """Many slow responses may be overdue just before they come; the next claim is another thing."""
        request, away = self.request(clock)
        assert not request.is_over(self.standing(clock))
        away.add("p")
        assert not request.is_over(self.standing(clock))
        assert request.is_over(self.standing(clock, version=2))


class TestLooking:
    """What a request learns from its looks at another process's rotation."""

    def test_a_claim_in_doubt_is_looked_at_when_it_has_settled(self, clock: ManualClock) -> None:
        """Nothing can happen before, so nothing is read before."""
        waiting(clock).sleep(seen(clock), InDoubt(clock.time() + 2.0), POLICY)
        assert clock.monotonic() == pytest.approx(2.0)

    def test_what_is_found_after_a_wait_was_waited_for(self, clock: ManualClock) -> None:
        """The origin of a token set says whether its request had to wait."""
        request = waiting(clock)
        assert request.origin == "row"
        request.sleep(seen(clock), wait(clock), POLICY)
        assert request.origin == "waited"

    def test_a_wait_after_a_doubt_looks_when_the_replay_is_due(self, clock: ManualClock) -> None:
        """Whoever waited for a doubt to settle waits for the replay as for any other response."""
        request = waiting(clock)
        request.sleep(seen(clock), InDoubt(clock.time() + 2.0), POLICY)
        request.sleep(seen(clock), wait(clock), POLICY)
        assert clock.monotonic() == pytest.approx(2.0 + FIRST_GUESS)

    def test_a_request_learns_from_what_it_waited_for(self, clock: ManualClock) -> None:
        """A process that has never rotated itself knows after one wait how long it takes."""
        times = RotationTimes()
        wakeups = MemoryWakeups(clock, is_notified=True)
        with wakeups.watch("g") as watch:
            request = Waiting(clock, WAIT, times, watch, until=WAIT)
            decision = wait(clock)
            wakeups.wake("g")
            request.sleep(seen(clock), decision, POLICY)
            clock.advance(0.7)
            request.found(a_grant(clock, token_version=decision.standing.claim.version))
        assert times.expected("p") == pytest.approx(0.7 + 2 * 0.7 / 8)

    def test_one_notification_ends_one_sleep(self, clock: ManualClock) -> None:
        """After a look the request sleeps again, or one notification would keep it awake for good."""
        wakeups = MemoryWakeups(clock)
        with wakeups.watch("g") as watch:
            request = Waiting(clock, WAIT, RotationTimes(), watch, until=WAIT)
            wakeups.wake("g")
            request.sleep(seen(clock), wait(clock), POLICY)
            assert clock.monotonic() == 0.0
            request.look()
            request.sleep(seen(clock), wait(clock), POLICY)
            assert clock.monotonic() > 0.0

    @pytest.mark.parametrize(
        ("remaining", "notified"), [(-1.0, True), (5.0, True), (100.0, False), (9000.0, False)]
    )
    def test_no_notification_is_expected_of_a_rotation_ahead(
        self, clock: ManualClock, remaining: float, notified: bool
    ) -> None:
        """Who waits for one looks when it is probably done: it notifies nobody, as hardly anybody waits."""
        times = RotationTimes()
        with MemoryWakeups(clock, is_notified=True).watch("g") as watch:
            request = Waiting(clock, WAIT, times, watch, until=WAIT)
            tokens = TokenSet(
                access_token=Secret("access"), expires_at=clock.time() + remaining, lifetime=36_000.0
            )
            request.sleep(seen(clock, a_grant(clock, tokens=tokens)), wait(clock), POLICY)
        expected = times.expected("p")
        assert clock.monotonic() == pytest.approx(2 * expected + NOT_NOTIFIED if notified else expected)
