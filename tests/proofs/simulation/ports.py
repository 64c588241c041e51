"""The ports of the protocol, in memory: each call stops before its effect and before its answer arrives.

A worker that is not scheduled again after the first stop did nothing; after the second, it did it
and will never know. Both are what a crash, a stall or a lost COMMIT looks like from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.holding import RESPONSE_SECONDS
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, EndReason, Grant, NewGrant, Secret, TokenSet, Unsaved
from flask_tokenrotate.rotation.verdict import NotSent, Rotated, Unknown, Verdict
from flask_tokenrotate.testing.memory import MemoryGrantStore, MemoryRescue, MemoryWakeups
from flask_tokenrotate.threads import CallersThread

from .provider import Message, Provider, family_of
from .referee import Referee
from .scheduler import Process, Scheduler, Worker

T = TypeVar("T")

EPOCH = 1_000_000.0
"""The database's time when a schedule begins."""

STORE_HANGS = 3.0
"""Seconds that a call of the store may take to fail: its time-out for connecting."""


class DatabaseTime:
    """The database's clock: far from every process's own, and set forward or back now and then."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.offset = EPOCH

    def time(self) -> float:
        """Return the database's time."""
        return self.offset + self._scheduler.now


class StoppingStore:
    """A `MemoryGrantStore` behind a network that stops, and that is away for a while now and then."""

    def __init__(self, rows: MemoryGrantStore, scheduler: Scheduler, referee: Referee) -> None:
        self._rows = rows
        self._scheduler = scheduler
        self._referee = referee
        self.away_until = 0.0
        self.comes_and_goes = False
        self.settled: Callable[[Claim], None] = lambda claim: None
        self.overdue_seen: Callable[[], None] = lambda: None

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert the grant of a new sign-in."""

        def add() -> Grant:
            self._referee.replaced.add(replaces)
            grant = self._rows.add(new, replaces=replaces)
            self._referee.families[grant.id] = family_of(new.response.access_token)
            return grant

        return self._call(f"add {new.response.access_token.reveal()} in place of {replaces}", add)

    def load(self, grant_id: str) -> Grant | None:
        """Read the row."""

        def load() -> Grant | None:
            self._referee.loads()
            row = self._rows.load(grant_id)
            if row is not None and row.standing is not None and row.seen_at >= row.standing.deadline:
                self.overdue_seen()
            return row

        return self._call(f"load {grant_id}", load)

    def try_claim(
        self,
        seen: Grant,
        *,
        doubts: int,
        holder: str,
        seconds: float,
        awaited: bool = False,
    ) -> Claim | Overtaken:
        """Take the claim."""

        def claim() -> Claim | Overtaken:
            before = self._rows.rows[seen.id]
            won = self._rows.try_claim(seen, doubts=doubts, holder=holder, seconds=seconds, awaited=awaited)
            if isinstance(won, Claim):
                self._referee.events["rotation ahead"] += not awaited
                self._referee.claimed(won, before, seconds)
            return won

        return self._call(f"try_claim {seen.id} as of version {seen.version}", claim)

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """Extend the claim's deadline."""

        def renew() -> bool:
            done = self._rows.renew(claim, seconds=seconds)
            if done:
                self._referee.renewed(claim, seconds)
            return done

        return self._call(f"renew claim {claim.version} for {seconds:.1f} s", renew)

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Save the token set."""

        def save() -> SaveOutcome:
            self._referee.saves(claim)
            saved = self._rows.save(seen, claim, tokens, http_status=http_status)
            self.settled(claim)
            return saved

        try:
            return self._call(f"save {tokens.access_token.reveal()} with claim {claim.version}", save)
        except StoreUnavailable:
            self._referee.events["failed save"] += 1
            raise

    def release(self, claim: Claim, verdict: Verdict, **how: Any) -> bool:
        """Give the claim up."""

        def release() -> bool:
            done = self._rows.release(claim, verdict, **how)
            if done:
                self._referee.released(claim)
            self.settled(claim)
            return done

        doubt = ", in doubt" if how.get("in_doubt") else ""
        return self._call(
            f"release claim {claim.version} ({verdict.consequences.ledger_name}{doubt})", release
        )

    def end(self, grant_id: str, reason: EndReason, **refusal: Any) -> bool:
        """End the grant."""
        return self._call(f"end {grant_id}: {reason}", lambda: self._rows.end(grant_id, reason, **refusal))

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Mark the access token as dead."""

        def expire() -> bool:
            self._referee.expired.add(grant_id)
            return self._rows.expire(grant_id, token_version)

        return self._call(f"expire {grant_id} token version {token_version}", expire)

    def _call(self, what: str, effect: Callable[[], T]) -> T:
        self._scheduler.stop()
        self._check_reachable(f"{what}: the store is away")
        self._referee.in_store.add(self._scheduler.running)
        before = dict(self._rows.rows)
        result = effect()
        self._scheduler.note(f"{what} -> {_brief(result)}")
        self._referee.rows_changed(before)
        self._referee.in_store.discard(self._scheduler.running)
        self._scheduler.stop()
        self._check_reachable(f"{what}: done, but the store is away before it says so")
        return result

    def _check_reachable(self, what: str) -> None:
        if self._scheduler.now < self.away_until and not (
            self.comes_and_goes and self._scheduler.tape.one_in(3)
        ):
            self._scheduler.note(what)
            if self._scheduler.tape.one_in(4):
                self._scheduler.stop(until=self._scheduler.now + STORE_HANGS)
            raise StoreUnavailable("the simulated store is away")


class WatchedRescue(MemoryRescue):
    """The rescue folder of the host that all processes of a schedule share."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self.put_at: dict[str, float] = {}

    def put(self, unsaved: Unsaved) -> None:
        """Keep it, and when it came."""
        self._scheduler.note(f"puts {unsaved.tokens.access_token.reveal()} aside")
        self.put_at[unsaved.claim.id] = self._scheduler.now
        super().put(unsaved)

    def holds_before(self, access_token: Secret, moment: float) -> bool:
        """Return whether the token waits here and did so before ``moment``."""
        return any(
            each.tokens.access_token == access_token and self.put_at[each.claim.id] < moment
            for each in self.kept.values()
        )


def _brief(result: object) -> str:
    if isinstance(result, Grant):
        end = result.end_reason or ("claimed" if result.standing else "free")
        return f"version {result.version}, token version {result.token_version}, {end}"
    if isinstance(result, Overtaken):
        return f"overtaken: {_brief(result.row)}"
    if isinstance(result, Claim):
        return f"claim {result.version}"
    return str(result)


class StoppingEndpoint:
    """One process's way to the provider. The provider goes on whatever becomes of the process."""

    def __init__(
        self,
        provider: Provider,
        process: Process,
        scheduler: Scheduler,
        referee: Referee,
        *,
        has_threads: bool,
    ) -> None:
        self._provider = provider
        self._process = process
        self._has_threads = has_threads
        self._scheduler = scheduler
        self._referee = referee

    def redeem(
        self,
        provider: str,
        refresh_token: Secret,
        *,
        send_by: float,
        keep_waiting: Callable[[], float],
    ) -> Verdict:
        """Send, let the provider work, wait for the response: a stop between each."""
        scheduler = self._scheduler
        self._referee.calls_endpoint()
        is_ending = self._process.closing and self._has_threads
        scheduler.stop()
        if scheduler.now + self._process.offset > send_by:
            self._referee.disturbed("not_sent")
            return NotSent(cause="deadline")
        if self._provider.is_unreachable():
            scheduler.note("cannot connect to the provider")
            self._referee.disturbed("not_sent")
            return NotSent(cause="connection refused")
        message = Message(refresh_token, scheduler.running)
        self._referee.sends(message, is_ending=is_ending)
        scheduler.note(f"posts {refresh_token.reveal()}")
        self._provider.accept(message)
        scheduler.stop()
        try:
            return self._wait(message, keep_waiting)
        finally:
            message.in_progress = False

    def _wait(self, message: Message, keep_waiting: Callable[[], float]) -> Verdict:
        """Read until the response is there. A read whose moment has passed takes what has arrived."""
        scheduler = self._scheduler
        while True:
            self._referee.waits(message)
            left = keep_waiting() - (scheduler.now + self._process.offset)
            if message.answer is None and left <= 0:
                return self._given_up(message)
            if message.answer is None:
                scheduler.stop(until=scheduler.now + left, awaits=message)
            if message.answer is not None:
                self._receive(message)
                return message.answer

    def _given_up(self, message: Message) -> Unknown:
        self._scheduler.note("ends its call without a response")
        if not self._process.closing:
            self._referee.gives_up(message, RESPONSE_SECONDS)
        self._referee.disturbed("unknown")
        message.outcome_unknown = True
        return Unknown(cause="read time-out", timed_out=True)

    def _receive(self, message: Message) -> None:
        answer = message.answer
        self._scheduler.note(f"reads the answer {type(answer).__name__}")
        if isinstance(answer, Rotated):
            self._referee.received(message)
        elif isinstance(answer, Unknown):
            message.outcome_unknown = True

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        """Revoke the token set."""
        self._referee.calls_endpoint()
        self._referee.revokes(tokens)
        self._scheduler.stop()
        done = self._provider.revoke(tokens)
        self._scheduler.note(f"revokes {tokens.access_token.reveal()} -> {done}")
        self._scheduler.stop()
        return done


class ProcessClock:
    """One process's monotonic clock."""

    def __init__(self, process: Process, scheduler: Scheduler) -> None:
        self._process = process
        self._scheduler = scheduler

    def monotonic(self) -> float:
        """Return the process's own seconds."""
        return self._scheduler.now + self._process.offset

    def sleep(self, seconds: float) -> None:
        """Let the others run until ``seconds`` have passed."""
        self._scheduler.stop(until=self._scheduler.now + max(seconds, 0.0))

    def event(self) -> SimulatedEvent:
        """Return a new event."""
        return SimulatedEvent(self._scheduler)


class SimulatedEvent:
    """What workers of one process wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.done = False

    def set(self) -> None:
        """Let those who wait run again."""
        if not self._scheduler.closed:
            self.done = True

    def clear(self) -> None:
        """Let those who come now wait."""
        self.done = False

    def wait(self, timeout: float) -> bool:
        """Let the others run until it is set or ``timeout`` seconds have passed."""
        if not self.done:
            self._scheduler.stop(until=self._scheduler.now + timeout, awaits=self)
        return self.done


class CountedWakeups(MemoryWakeups):
    """One process's wake-ups; it takes for granted that each arrives, also where none does.

    That is the worst case: a connection that broke and does not know.
    """

    def __init__(self, clock: ProcessClock, referee: Referee) -> None:
        super().__init__(clock, is_notified=True)
        self._referee = referee

    def wake(self, grant_id: str) -> None:
        """Wake those who watch the grant, and count it if there are any."""
        self._referee.events["wake-up"] += bool(self._watches.get(grant_id))
        super().wake(grant_id)


class SimulatedThreads:
    """The rotation threads of one process, ``limit`` at most; one of them is left free by rotations ahead."""

    in_background = True

    def __init__(self, process: Process, scheduler: Scheduler, referee: Referee, limit: int) -> None:
        self._process = process
        self._scheduler = scheduler
        self._referee = referee
        self._limit = limit
        self._threads = 0
        self._started = 0
        self._queue: list[tuple[Callable[[], None], float]] = []

    @property
    def are_closing(self) -> bool:
        """Whether the process exits."""
        return self._process.closing

    def run(self, provider: str, work: Callable[[], None], *, ahead: bool) -> bool:
        """Do the work on a worker of its own, once there are few enough of them."""
        busy = self._threads + len(self._queue)
        if ahead and (busy >= self._limit - 1 or self.are_closing or self._scheduler.tape.one_in(8)):
            return False
        self._queue.append((work, self._referee.loaded_at()))
        if self._threads < self._limit:
            self._threads += 1
            self._started += 1
            self._scheduler.start(f"t{self._started}", self._process, self._serve)
        return True

    def _serve(self, worker: Worker) -> None:
        while self._queue:
            work, loaded_at = self._queue.pop(0)
            self._referee.loads(loaded_at)
            try:
                work()
            finally:
                if self._process.alive and not self._scheduler.closed:
                    self._referee.hands_empty(worker)
        self._threads -= 1
        worker.finished = True


class NoThreads(CallersThread):
    """The kind for where no other thread can run, counted."""

    def __init__(self, referee: Referee) -> None:
        self._referee = referee

    def run(self, provider: str, work: Callable[[], None], *, ahead: bool) -> bool:
        """Do the work here."""
        self._referee.events["caller's thread"] += 1
        return super().run(provider, work, ahead=ahead)


class SilentObserver:
    """Is notified of everything and does nothing."""

    def notify(self, name: str, grant: Grant, facts: Mapping[str, Any]) -> None:
        """Do nothing."""
