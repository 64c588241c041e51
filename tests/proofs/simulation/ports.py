"""The ports of one process but for its store: the way to the provider, clock, threads and notifications.

As in `store`, each call is a place to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask_tokenrotate.rotation.holding import RESPONSE_SECONDS
from flask_tokenrotate.rotation.tokens import Grant, Secret, TokenSet
from flask_tokenrotate.rotation.verdict import NotSent, Rotated, Unknown, Verdict
from flask_tokenrotate.testing.memory import MemoryWakeups
from flask_tokenrotate.threads import CallersThread

from .provider import Message, Provider
from .referee import Referee
from .scheduler import Process, Scheduler, Worker


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
        message.send_by = send_by - self._process.offset
        self._provider.send(message)
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
