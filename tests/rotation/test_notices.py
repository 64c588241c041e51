"""What observers and logs get to know: what happened, and never a secret; after the flight has landed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, get_args

import pytest

from flask_tokenrotate.errors import ProviderUnavailable, RotationTimeout, TokenRotateError
from flask_tokenrotate.rotation.flights import Flights
from flask_tokenrotate.rotation.ports import EventName
from flask_tokenrotate.rotation.tokens import Grant, Secret
from flask_tokenrotate.rotation.verdict import Busy, Misconfigured, Refused, Rotated, Unknown, Verdict

from .processes import LaterThreads, World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


def test_every_event_is_a_known_one(world: World) -> None:
    """The names that observers get are those that the ports list, and each comes."""
    first = world.sign_in(remaining=-1.0, scopes=frozenset({"a"}))
    process = world.process()
    world.endpoint.script = [BUSY]
    with pytest.raises(ProviderUnavailable):
        process.get(first)
    world.clock.advance(60.0)
    world.endpoint.script = [lambda: world.endpoint.rotated(scopes=frozenset())]
    process.get(first)
    second = world.sign_in(remaining=-1.0)
    world.store.away = {"save"}
    process.get(second)
    world.store.away = set()
    process.sign_out(second)
    assert set(world.notified.names) == set(get_args(EventName))


@pytest.mark.parametrize(
    "step",
    [None, BUSY, RESET, TIMED_OUT, REFUSED, Misconfigured(error="invalid_client", cure="mend it")],
    ids=["rotated", "busy", "reset", "timed out", "refused", "misconfigured"],
)
def test_no_secret_is_logged_raised_or_reported(
    world: World, caplog: pytest.LogCaptureFixture, step: Verdict | None
) -> None:
    """Log, errors and facts of every outcome are free of tokens."""
    canary = "canary-7d1c"
    grant_id = world.sign_in(
        remaining=-1.0, access_token=Secret(f"{canary}-a"), refresh_token=Secret(f"{canary}-r")
    )
    tokens = {"access_token": Secret(f"{canary}-A"), "refresh_token": Secret(f"{canary}-R")}
    world.endpoint.script = [step or Rotated(response=replace(world.endpoint.rotated().response, **tokens))]
    world.store.away = {"save"}
    said = []
    with caplog.at_level(logging.DEBUG):
        try:
            said.append(repr(world.process().get(grant_id)))
        except TokenRotateError as error:
            said += [str(error), repr(error), repr(vars(error))]
    assert said
    assert canary not in " ".join([*said, caplog.text, repr(world.notified.events)])


class TestAReceiverThatAsksForTheToken:
    """It is notified when nothing is left to wait for."""

    @pytest.mark.parametrize("cache_seconds", [5.0, 0.0], ids=["cached", "not cached"])
    @pytest.mark.parametrize("on_thread", [True, False], ids=["on a thread", "in the caller"])
    def test_it_gets_the_new_one_at_once(self, world: World, cache_seconds: float, on_thread: bool) -> None:
        """Neither the flight nor the look that it was started from is waited for."""
        grant_id = world.sign_in(remaining=-1.0)
        threads = LaterThreads()
        process = world.process(cache_seconds=cache_seconds, threads=threads if on_thread else None)
        found: list[str] = []
        world.notified.then = lambda grant: found.append(access(process.get(grant.id)))
        if on_thread:
            world.clock.meanwhile = [threads.work]
        began = world.clock.monotonic()
        assert access(process.get(grant_id)) == "access-1"
        assert found == ["access-1"] * 2
        # On a thread: the one wait of the request itself, during which the thread worked.
        assert world.clock.monotonic() - began <= (1.0 if on_thread else 0.0)

    @pytest.mark.parametrize("on_thread", [True, False], ids=["on a thread", "in the caller"])
    def test_after_a_failure_it_gets_the_same_error(self, world: World, on_thread: bool) -> None:
        """Nothing is cached then, so that it reads the row, and waits for nobody."""
        grant_id = world.sign_in(remaining=-1.0)
        threads = LaterThreads()
        process = world.process(threads=threads if on_thread else None)
        world.endpoint.script = [BUSY]
        errors: list[TokenRotateError] = []

        def ask(grant: Grant) -> None:
            with pytest.raises(TokenRotateError) as caught:
                process.get(grant.id)
            errors.append(caught.value)

        world.notified.then = ask
        if on_thread:
            world.clock.meanwhile = [threads.work]
        with pytest.raises(ProviderUnavailable):
            process.get(grant_id)
        assert [type(error) for error in errors] == [ProviderUnavailable] * 2
        assert world.endpoint.posts == ["refresh-0"]

    def test_notified_before_the_landing_it_would_wait_for_itself(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: the receiver waits for the flight that waits for the receiver."""
        land = Flights._land

        def notify_and_land(flights: Flights, flight: object) -> None:
            while flight.notices:  # type: ignore[attr-defined]
                notice = flight.notices.pop(0)  # type: ignore[attr-defined]
                flights._observer.notify(notice.name, notice.grant, notice.facts)
            land(flights, flight)  # type: ignore[arg-type]

        monkeypatch.setattr(Flights, "_land", notify_and_land)
        assert isinstance(self.found_after_a_failure_without_a_pause(world), RotationTimeout)

    def test_notified_after_the_landing_it_does_not(self, world: World) -> None:
        """The same: its own redemption brings the token."""
        assert self.found_after_a_failure_without_a_pause(world) == "access-1"

    def found_after_a_failure_without_a_pause(self, world: World) -> object:
        """Return what a receiver gets that asks when a claim came too late to post."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        found: list[object] = []

        def ask(grant: Grant) -> None:
            world.notified.then = lambda grant: None
            try:
                found.append(access(process.get(grant.id)))
            except TokenRotateError as error:
                found.append(error)

        def claim_slowly(try_claim: Any, *args: Any, **options: Any) -> Any:
            claim = try_claim(*args, **options)
            world.clock.advance(world.timing.redeem)
            return claim

        world.store.once("try_claim", claim_slowly)
        world.notified.then = ask
        process.start(grant_id)
        return found[0]
