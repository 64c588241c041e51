"""What runs on the simulated workers: requests that use tokens, over the real protocol and memo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from flask_tokenrotate.errors import TokenRotateError
from flask_tokenrotate.rotation.asking import Asking, Wish
from flask_tokenrotate.rotation.assembly import Rotation
from flask_tokenrotate.rotation.fresh_tokens import FreshTokens
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.outcomes import Overtaken
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.sighting import Fresh, Sighting

from .referee import Referee
from .scheduler import Process, Scheduler, Worker

PAUSES = (20.0, 20.0, 65.0)
"""Seconds that a stream may take between two uses of its token."""


class Leaders:
    """Who works on which grant in one process: never two at once (I6)."""

    def __init__(self, scheduler: Scheduler, referee: Referee) -> None:
        self._scheduler = scheduler
        self._referee = referee
        self._leaders: dict[str, set[Worker]] = {}

    def forget(self, grant_id: str) -> None:
        """Let another worker begin beside those that work on the grant."""
        self._leaders.pop(grant_id, None)

    @contextmanager
    def lead(self, grant_id: str) -> Iterator[None]:
        """Work on the grant inside the block."""
        leaders = self._leaders.setdefault(grant_id, set())
        if leaders:
            self._referee.two_leaders(grant_id)
        worker = self._scheduler.running
        leaders.add(worker)
        try:
            yield
        finally:
            leaders.discard(worker)


class WatchedAsking(Asking):
    """The real looks at rows; the referee knows which are in progress."""

    leaders: Leaders

    def ask(self, wish: Wish, until: float, seen: Sighting | None = None) -> Fresh:
        if self._clock.monotonic() >= until:
            return super().ask(wish, until, seen)  # it looks once more, and waits for nobody
        with self.leaders.lead(wish.grant_id):
            return super().ask(wish, until, seen)


class WatchedRedeemer(Redeemer):
    """The real redemptions; the referee knows which are in progress."""

    leaders: Leaders

    def redeem(self, seen: Sighting, *rest: Any, **how: Any) -> Sighting | Overtaken | None:
        with self.leaders.lead(seen.grant.id):
            return super().redeem(seen, *rest, **how)


class WatchedTokens(FreshTokens):
    """The real way to a token set; the referee knows each call and what it returned."""

    referee: Referee
    process: Process
    looks: Leaders
    has_threads: bool

    def get(
        self,
        grant_id: str,
        *,
        min_ttl: float | None = None,
        at_least: int = 0,
        seen: Sighting | None = None,
        here: bool = False,
    ) -> Fresh:
        # What was read with the session before the sign-out is the request's own.
        has_ended = seen is None and (self.process, grant_id) in self.referee.ended_in
        call = self.referee.asks(grant_id, seen)
        waits_for_nobody = self.has_threads and not here
        try:
            found = super().get(grant_id, min_ttl=min_ttl, at_least=at_least, seen=seen, here=here)
        except TokenRotateError:
            if waits_for_nobody:
                self.referee.ends_call(call, None)
            raise
        if waits_for_nobody:
            self.referee.ends_call(call, found if at_least == 0 else None)
        if has_ended:
            self.referee.returned_after_sign_out(grant_id)
        return found

    def forget(self, grant_id: str) -> None:
        self.looks.forget(grant_id)
        super().forget(grant_id)


def watch(rotation: Rotation, process: Process, scheduler: Scheduler, referee: Referee) -> None:
    """Let the referee know of each call from outside, and of each look and redemption of the process."""
    tokens, asking, redeemer = rotation.tokens, rotation.tokens._asking, rotation.flights._redeemer
    tokens.__class__, asking.__class__, redeemer.__class__ = WatchedTokens, WatchedAsking, WatchedRedeemer
    assert isinstance(tokens, WatchedTokens)
    assert isinstance(asking, WatchedAsking)
    assert isinstance(redeemer, WatchedRedeemer)
    tokens.referee, tokens.process = referee, process
    tokens.has_threads = rotation.flights.go_on_in_background
    tokens.looks = asking.leaders = Leaders(scheduler, referee)
    redeemer.leaders = Leaders(scheduler, referee)


class Request:
    """One request: what its hooks, view and templates do, and what comes after its response.

    ``session`` holds the grant of each user, and is read when a user is first needed, as a web request does.
    ``renew`` is a user's new sign-in at the provider and in the store. ``here``: it is a job, which leaves
    nothing to the threads of its process.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        referee: Referee,
        worker: Worker,
        session: MutableMapping[str, str],
        renew: Callable[[str, str], str],
        *,
        calm: bool = False,
        here: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._session = session
        self._renew = renew
        self._grants: dict[str, str] = {}
        self._ended: set[str] = set()
        self._referee = referee
        self._worker = worker
        self._rotation: Rotation = worker.process.rotation
        self._store, self._clock = self._rotation.rows._store, self._rotation.rows._clock
        self._memo = RequestMemo()
        self._calm = calm
        self._here = here
        self._used: dict[str, int] = {}
        self._last: dict[str, Fresh] = {}

    def run(self, actions: list[tuple[str, str]]) -> None:
        """Do the actions until one fails, then what was put off until after the response."""
        scheduler = self._scheduler
        for action, user in actions:
            grant_id = self._grants.setdefault(user, self._session[user])
            try:
                with self._settled():
                    if action == "sign_in":
                        self._sign_in(user, grant_id)
                    else:
                        getattr(self, action)(grant_id)
            except TokenRotateError as error:
                scheduler.note(f"{action} {grant_id}: {error!r}")
                self._referee.failed(grant_id, error, calm=self._calm)
                break
        for due in self._memo.rotations_ahead():
            with self._settled():
                scheduler.note(f"rotates {due.grant.id} ahead")
                self._rotation.ahead.rotate(due.grant.id, min_ttl=due.min_ttl)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._worker.process.alive and not self._scheduler.closed:
                self._referee.hands_empty(self._worker)

    def touch(self, grant_id: str) -> None:
        """Use a token."""
        self._got(grant_id, self._memo.fresh(self._rotation.tokens, grant_id, here=self._here))

    def guarded(self, grant_id: str) -> None:
        """Use a token whose row is read with the session, where the memo has none."""
        had_ended = False

        def read(grant_id: str) -> Sighting | None:
            nonlocal had_ended
            had_ended = (self._worker.process, grant_id) in self._referee.ended_in
            grant = self._store.load(grant_id)
            return None if grant is None else Sighting(grant, self._clock.monotonic())

        fresh = self._memo.fresh(self._rotation.tokens, grant_id, read=read, here=self._here)
        if had_ended:
            self._referee.returned_after_sign_out(grant_id)
        self._got(grant_id, fresh)

    def refused(self, grant_id: str) -> None:
        """Use a token and hear from the resource server that it is not good."""
        self.touch(grant_id)
        fresh = self._memo.refused(self._rotation.refused, self._last[grant_id], here=self._here)
        self._got(grant_id, fresh)

    def _got(self, grant_id: str, fresh: Fresh) -> None:
        self._scheduler.note(f"has {fresh.tokens.access_token.reveal()} ({fresh.origin})")
        self._referee.got(grant_id, fresh, self._used)
        if grant_id in self._ended:
            self._referee.returned_after_sign_out(grant_id)
        self._last[grant_id] = fresh

    def pause(self, grant_id: str) -> None:
        """Take a while, as a stream does."""
        scheduler = self._scheduler
        scheduler.stop(until=scheduler.now + PAUSES[scheduler.tape.pick(len(PAUSES))])

    def expire(self, grant_id: str) -> None:
        """Learn elsewhere that the token is no good."""
        self._rotation.ending.expire(grant_id)

    def sign_out(self, grant_id: str) -> None:
        """Sign the user out."""
        self._referee.sign_outs_begun.add(grant_id)
        self._rotation.ending.sign_out(grant_id)
        self._referee.events["sign-out"] += 1
        self._referee.signed_out_in.add((self._worker.process, grant_id))
        self._is_over(grant_id)
        self._scheduler.note(f"has signed {grant_id} out")

    def _sign_in(self, user: str, grant_id: str) -> None:
        """Sign the user in once more: a new grant, which replaces the one of this request's session."""
        self._session[user] = self._grants[user] = self._renew(user, grant_id)
        self._rotation.tokens.forget(grant_id)
        self._referee.events["new sign-in"] += 1
        self._is_over(grant_id)
        self._scheduler.note(f"has signed {user} in again")

    def _is_over(self, grant_id: str) -> None:
        self._memo.forget()
        self._last.clear()
        self._ended.add(grant_id)
        self._referee.ended_in.add((self._worker.process, grant_id))
