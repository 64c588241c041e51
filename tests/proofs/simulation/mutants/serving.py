"""Mutants of the rules about serving requests: waiting, sharing, and what an outage does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.errors import SignInRequired
from flask_tokenrotate.rotation import asking
from flask_tokenrotate.rotation.ahead import Ahead
from flask_tokenrotate.rotation.breaker import Admitted, Breaker
from flask_tokenrotate.rotation.flights import Flights
from flask_tokenrotate.rotation.looks import Looks
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.outcomes import Overtaken
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.waiting import Waiting

from .registry import breaks, replaced


@breaks("losers never sign anyone out", "I3")
def loser_signs_out() -> Iterator[None]:
    """Who loses the claim sends its user to sign in."""

    def make(original: Any) -> Any:
        def redeem(self: Any, seen: Any, *rest: Any, **how: Any) -> Any:
            found = original(self, seen, *rest, **how)
            if isinstance(found, Overtaken):
                raise SignInRequired(seen.grant.provider, "lost_race")
            return found

        return redeem

    with replaced(Redeemer, "redeem", make):
        yield


@breaks("10: an outage is not a sign-out", "I3")
def outage_signs_out() -> Iterator[None]:
    """A provider that is away costs its users their session."""

    def error(grant: Any, decision: Any) -> SignInRequired:
        return SignInRequired(grant.provider, "refused")

    with patch.object(asking, "_error", error):
        yield


@breaks("10: an outage ends, and then all are served again", "I3")
def breaker_never_closes() -> Iterator[None]:
    """A provider that was away once is never asked again."""

    def make(original: Any) -> Any:
        def admit(self: Any, provider: str, grant_id: str) -> Admitted:
            circuit = self._circuits.get(provider)
            is_open = circuit is not None and circuit.is_open
            return Admitted(pause=1.0) if is_open else original(self, provider, grant_id)

        return admit

    with replaced(Breaker, "admit", make):
        yield


@breaks("12: key everything by grant id", "I4")
def memo_keyed_by_provider() -> Iterator[None]:
    """Two users of one provider share a place in the memo."""

    def make(original: Any) -> Any:
        def fresh(self: Any, tokens: Any, grant_id: str, **how: Any) -> Any:
            for held in self._fresh.values():
                if tokens.is_fresh(held):
                    return held
            return original(self, tokens, grant_id, **how)

        return fresh

    with replaced(RequestMemo, "fresh", make):
        yield


@breaks("one thread of a process looks at a grant, the others wait", "I6")
def look_forgotten_too_early() -> Iterator[None]:
    """The look is forgotten when its work begins."""

    def make(original: Any) -> Any:
        def take(self: Any, key: str, look: Any, work: Any) -> Any:
            self._looks.pop(key, None)
            return original(self, key, look, work)

        return take

    with replaced(Looks, "take", make):
        yield


@breaks("one thread of a process redeems a grant, the others wait", "I6")
def flight_forgotten_too_early() -> Iterator[None]:
    """The flight is forgotten when its work begins."""

    def make(original: Any) -> Any:
        def fly(self: Any, flight: Any, *rest: Any, **how: Any) -> None:
            self._flights.pop(flight.grant_id, None)
            original(self, flight, *rest, **how)

        return fly

    with replaced(Flights, "_fly", make):
        yield


@breaks("11: nobody waits for a rotation ahead", "I6")
def rotation_ahead_awaited() -> Iterator[None]:
    """Who starts a rotation ahead waits until it has landed, and gets what it brought."""

    def make(original: Any) -> Any:
        def rotating(self: Any, fresh: Any, policy: Any, epoch: int) -> Any:
            found = original(self, fresh, policy, epoch)
            flight = self._flights.of(fresh.grant.id)
            if flight is None or not self._flights.go_on_in_background:
                return found
            flight.landed.wait(60.0)
            if not hasattr(flight.result, "grant"):
                return found
            return self._windows.to_its_end(flight.result, "rotated", None)

        return rotating

    with replaced(Ahead, "rotating", make):
        yield


@breaks("4: who comes late to a slow provider does not wait", "I6")
def waits_without_end() -> Iterator[None]:
    """A request waits for the redemption of a slow provider however long it takes."""

    def until_landed(self: Any, flight: Any) -> bool:
        return bool(flight.landed.wait(600.0))

    with patch.object(Waiting, "until_landed", until_landed):
        yield


@breaks("4: a request waits no longer than it may, whatever it waits for", "I6")
def waits_anew_after_a_look() -> Iterator[None]:
    """Who has waited for another thread's look in vain begins to wait anew in a look of its own."""

    def make(original: Any) -> Any:
        def ask(self: Any, wish: Any, until: float, seen: Any = None) -> Any:
            return original(self, wish, self._clock.monotonic() + self._wait_seconds, seen)

        return ask

    with replaced(asking.Asking, "ask", make):
        yield
