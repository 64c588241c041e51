"""A clock on which workers take turns, and a provider that takes its time: slow calls without slow tests."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from greenlet import greenlet

from flask_tokenrotate.rotation.tokens import Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import Refused, Rotated, Unknown, Verdict
from flask_tokenrotate.testing import ManualClock


class Job:
    """What one worker does: ``result`` or ``error``, and the moments at which it began and ended."""

    def __init__(self, clock: Turns, work: Callable[[], object]) -> None:
        self._clock = clock
        self._work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.began = self.ended = float("nan")

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    def __call__(self) -> None:
        self.began = self._clock.monotonic()
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error
        self.ended = self._clock.monotonic()


class Turns(ManualClock):
    """A clock whose time passes only while all workers wait; one worker runs at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._due: list[tuple[float, int, greenlet]] = []
        self._numbers = itertools.count()
        self._test = greenlet.getcurrent()

    def start(self, work: Callable[[], object], *, after: float = 0.0) -> Job:
        """Start a worker ``after`` so many seconds; `run` lets it work."""
        job = Job(self, work)
        self.due(greenlet(job), self.monotonic() + after)
        return job

    def run(self) -> None:
        """Let the workers take turns until all of them have ended."""
        while self._due:
            moment, _, worker = heapq.heappop(self._due)
            self.advance(moment - self.monotonic())
            worker.parent = greenlet.getcurrent()
            worker.switch()

    def due(self, worker: greenlet, moment: float) -> None:
        """Let ``worker`` go on at ``moment``."""
        heapq.heappush(self._due, (moment, next(self._numbers), worker))

    def cancel(self, worker: greenlet) -> None:
        """Let ``worker`` not go on by itself: something else wakes it."""
        self._due = [due for due in self._due if due[2] is not worker]
        heapq.heapify(self._due)

    def sleep(self, seconds: float) -> None:
        """Let others work for ``seconds``."""
        if greenlet.getcurrent() is self._test:
            self.advance(seconds)
        else:
            self.due(greenlet.getcurrent(), self.monotonic() + seconds)
            self._test.switch()

    def event(self) -> TurnsEvent:  # type: ignore[override]
        """Return a new event that is not set."""
        return TurnsEvent(self)


class TurnsEvent:
    """An event that one worker sets and others wait for."""

    def __init__(self, clock: Turns) -> None:
        self._clock = clock
        self._is_set = False
        self._waiting: list[greenlet] = []

    def set(self) -> None:
        """Wake all who wait, now and later."""
        self._is_set = True
        for worker in self._waiting:
            self._clock.cancel(worker)
            self._clock.due(worker, self._clock.monotonic())
        self._waiting.clear()

    def clear(self) -> None:
        """Reset the event."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; return whether it was set."""
        if not self._is_set and timeout > 0:
            worker = greenlet.getcurrent()
            self._waiting.append(worker)
            self._clock.sleep(timeout)
            if worker in self._waiting:
                self._waiting.remove(worker)
        return self._is_set


class TurnsThreads:
    """Rotation threads that are workers of a `Turns` clock."""

    in_background = True
    are_closing = False

    def __init__(self, clock: Turns) -> None:
        self._clock = clock
        self.jobs: list[Job] = []

    def run(self, provider: str, work: Callable[[], None], *, ahead: bool) -> bool:
        """Start a worker."""
        self.jobs.append(self._clock.start(work))
        return True


class SlowProvider:
    """A strict provider that responds ``takes`` seconds after a post, with tokens for ``lifetime`` seconds.

    A refresh token works once: the second presentation is refused, and revokes what the first one brought.
    """

    def __init__(self, clock: ManualClock, *, takes: float, lifetime: float) -> None:
        self._clock = clock
        self.takes = takes
        self.lifetime = lifetime
        self.posts: list[tuple[float, str]] = []
        self.revoked: list[str] = []

    @property
    def presented_twice(self) -> bool:
        """Whether any refresh token came a second time."""
        return len({token for _, token in self.posts}) < len(self.posts)

    def redeem(
        self, provider: str, refresh_token: Secret, *, send_by: float, keep_waiting: Callable[[], float]
    ) -> Verdict:
        """Respond as the contract of `TokenEndpoint` says."""
        self.posts.append((self._clock.monotonic(), refresh_token.reveal()))
        number, is_second = len(self.posts), self.presented_twice
        due = self._clock.monotonic() + self.takes
        while (now := self._clock.monotonic()) < due:
            until = keep_waiting()
            if until <= now:
                return Unknown(cause="read time-out", timed_out=True)
            self._clock.sleep(min(until, due) - now)
        if is_second:
            return Refused(error="invalid_grant")
        return Rotated(
            response=TokenResponse(
                access_token=Secret(f"access-{number}"),
                refresh_token=Secret(f"refresh-{number}"),
                expires_in=self.lifetime,
            )
        )

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        """Note what is revoked."""
        self.revoked.append(tokens.access_token.reveal())
        return True
