"""What runs on the simulated workers: requests that use tokens, over the real rotator and memo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

from flask_tokenrotate.errors import TokenRotateError
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.rotator import Rotator
from flask_tokenrotate.rotation.sighting import Fresh

from .referee import Referee
from .scheduler import Process, Scheduler, Worker


class WatchedRotator(Rotator):
    """The real rotator, with the referee told about each call from outside and each flight's leader."""

    referee: Referee
    process: Process
    scheduler: Scheduler

    def fresh(self, grant_id: str, *, min_ttl: float | None = None, at_least: int = 0) -> Fresh:
        has_ended = (self.process, grant_id) in self.referee.ended_in
        found = super().fresh(grant_id, min_ttl=min_ttl, at_least=at_least)
        if has_ended:
            self.referee.returned_after_sign_out(grant_id)
        return found

    def forget(self, grant_id: str) -> None:
        self.leaders.pop(grant_id, None)
        super().forget(grant_id)

    def _lead(self, grant_id: str, *args: object) -> Fresh:
        leaders = self.leaders.setdefault(grant_id, set())
        if leaders:
            self.referee.two_leaders(grant_id)
        worker = self.scheduler.running
        leaders.add(worker)
        try:
            return super()._lead(grant_id, *args)
        finally:
            leaders.discard(worker)

    @property
    def leaders(self) -> dict[str, set[Worker]]:
        """Who works on which grant in this process."""
        return self.__dict__.setdefault("_leaders", {})


class Request:
    """One request: what its hooks, view and templates do, and what comes after its response.

    ``session`` holds the grant of each user, and is read when a user is first needed, as a web request does.
    ``renew`` is a user's new sign-in at the provider and in the store.
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
    ) -> None:
        self._scheduler = scheduler
        self._session = session
        self._renew = renew
        self._grants: dict[str, str] = {}
        self._ended: set[str] = set()
        self._referee = referee
        self._worker = worker
        self._rotator = worker.process.rotator
        self._memo = RequestMemo()
        self._calm = calm
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
                self._rotator.rotate_ahead(due.grant.id, min_ttl=due.min_ttl)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._worker.process.alive and not self._scheduler.closed:
                self._referee.hands_empty(self._worker)

    def touch(self, grant_id: str) -> None:
        """Use a token."""
        self._got(grant_id, self._memo.fresh(self._rotator, grant_id))

    def refused(self, grant_id: str) -> None:
        """Use a token and hear from the resource server that it is not good."""
        self.touch(grant_id)
        self._got(grant_id, self._memo.refused(self._rotator, self._last[grant_id]))

    def _got(self, grant_id: str, fresh: Fresh) -> None:
        self._scheduler.note(f"has {fresh.tokens.access_token.reveal()} ({fresh.origin})")
        self._referee.got(grant_id, fresh, self._used)
        if grant_id in self._ended:
            self._referee.returned_after_sign_out(grant_id)
        self._last[grant_id] = fresh

    def pause(self, grant_id: str) -> None:
        """Take a while, as a stream does."""
        scheduler = self._scheduler
        scheduler.stop(until=scheduler.now + 20.0)

    def expire(self, grant_id: str) -> None:
        """Learn elsewhere that the token is no good."""
        self._rotator.expire(grant_id)

    def sign_out(self, grant_id: str) -> None:
        """Sign the user out."""
        self._referee.sign_outs_begun.add(grant_id)
        self._rotator.sign_out(grant_id)
        self._referee.events["sign-out"] += 1
        self._referee.signed_out_in.add((self._worker.process, grant_id))
        self._is_over(grant_id)
        self._scheduler.note(f"has signed {grant_id} out")

    def _sign_in(self, user: str, grant_id: str) -> None:
        """Sign the user in once more: a new grant, which replaces the one of this request's session."""
        self._session[user] = self._grants[user] = self._renew(user, grant_id)
        self._rotator.forget(grant_id)
        self._referee.events["new sign-in"] += 1
        self._is_over(grant_id)
        self._scheduler.note(f"has signed {user} in again")

    def _is_over(self, grant_id: str) -> None:
        self._memo.forget()
        self._last.clear()
        self._ended.add(grant_id)
        self._referee.ended_in.add((self._worker.process, grant_id))
