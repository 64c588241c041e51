"""What the referee knows of posts: when each left, under which claim, and what became of it.

Here are the invariants about posting: I1 (once, and once more after a doubt), I6b (never without a
pause) and I8 (never delivered late).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from flask_tokenrotate.rotation.holding import Timing
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .provider import Message
from .scheduler import Process, Scheduler, Worker, story

HINDRANCES = {"slow", "outage", "clock"}
"""What can keep every holder from renewing its claim. Stalls do so for the processes that they befall."""

LONGEST_STEPS = 1.0
"""Seconds that the steps of a call may take beyond its waiting, as all workers take turns."""


class Violation(AssertionError):
    """An invariant does not hold; the message tells which, why, and the schedule that led there."""

    def __init__(self, invariant: str, why: str, trace: list[tuple[float, str, str]]) -> None:
        self.invariant = invariant
        super().__init__(f"{invariant}: {why}\n{story(trace)}")


class Posts:
    """The posts of one schedule. ``happened`` are its disturbances so far."""

    def __init__(
        self,
        scheduler: Scheduler,
        rows: MemoryGrantStore,
        policy: Policy,
        timing: Timing,
        happened: set[str],
    ) -> None:
        self._scheduler = scheduler
        self._rows = rows
        self._policy = policy
        self._timing = timing
        self.happened = happened
        self.hindered: set[Process] = set()
        self.events: Counter[str] = Counter()
        self.is_rescued: Callable[[Secret, float], bool] = lambda token, moment: False
        self._loaded_at: dict[Worker, float] = {}
        self._claims: dict[Worker, tuple[Claim, float, float]] = {}
        self._messages: dict[str, Message] = {}
        self._posts: dict[str, list[Message]] = {}

    def is_kept(self, message: Message) -> bool:
        """Return whether the living process that received a token set still has to save it."""
        raise NotImplementedError

    def violated(self, invariant: str, why: str) -> Violation:
        """Return the violation, with the schedule so far."""
        return Violation(invariant, why, self._scheduler.trace)

    def disturbed(self, what: str) -> None:
        """Take down a disturbance, which excuses some errors."""
        self.happened.add(what)

    def loads(self, at: float | None = None) -> None:
        """The running worker reads a row: it may know from here on what was put aside before.

        ``at``: it goes on with what another worker read at that moment.
        """
        self._loaded_at[self._scheduler.running] = self._scheduler.now if at is None else at

    def loaded_at(self) -> float:
        """Return when the running worker read a row."""
        return self._loaded_at.get(self._scheduler.running, 0.0)

    def claimed(self, claim: Claim, before: Grant, seconds: float) -> None:
        """A claim was won: nobody asks a provider that wants to be left alone (I6)."""
        now = self._scheduler.now
        self._claims[self._scheduler.running] = (claim, now, now + seconds)
        if before.retry_at is not None and self._rows.rows[claim.grant_id].retry_at == before.retry_at:
            early = before.retry_at - self._database_now()
            if early > 0 and "clock" not in self.happened:
                raise self.violated("I6", f"claimed {early:.3f} s before the provider may be asked again")

    def _database_now(self) -> float:
        return self._rows._clock.time()

    def sends(self, message: Message, *, is_ending: bool) -> None:
        """A refresh token leaves a process: once, and once more only when in doubt (I1).

        ``is_ending``: the process was exiting when it began, and gives up at once: a doubt for nothing.
        """
        now = self._scheduler.now
        token = message.refresh_token.reveal()
        if is_ending:
            raise self.violated("I1", f"{token} is posted by a process that awaits no response")
        if message.sender in self._claims:
            claim, message.claimed_at, message.claim_deadline = self._claims[message.sender]
            message.claim_version = claim.version
            self._messages[claim.id] = message
        else:
            message.claimed_at, message.claim_deadline = now, float("inf")
        message.first_deadline = message.claim_deadline
        if now >= message.claim_deadline:
            raise self.violated("I1", f"{token} is posted outside its holder's claim")
        posts = self._posts.setdefault(token, [])
        if posts:
            self._check_pause(token, posts[-1])
        earlier = [post for post in posts if post.counts]
        posts.append(message)
        if earlier:
            self._check_replay(message, earlier)

    def arrives_late(self, message: Message, at: float) -> None:
        """A refresh token reaches the provider when the network heals: not when another may have it (I8)."""
        token = message.refresh_token.reveal()
        if at >= message.first_deadline:
            raise self.violated("I8", f"{token} is delivered after its claim's first deadline")
        if not (message.in_progress and message.sender.process.alive):
            raise self.violated("I8", f"{token} is delivered after its holder has given up, or died")

    def _check_pause(self, token: str, last: Message) -> None:
        """Whatever the verdict was: a grant is not asked for again until its pause is over (I6b)."""
        if last.released_at is None or "clock" in self.happened:
            return
        paused = self._scheduler.now - last.released_at
        if paused < self._timing.backoff:
            raise self.violated("I6b", f"{token} is posted again {paused:.3f} s after its claim was released")

    def _check_replay(self, message: Message, earlier: list[Message]) -> None:
        token = message.refresh_token.reveal()
        first = earlier[0]
        if self._policy.on_unknown != "replay":
            raise self.violated("I1", f"{token} is posted again where the profile says reauthorize")
        if len(earlier) > 1:
            raise self.violated("I1", f"{token} is posted a third time")
        self.events["replay"] += 1
        self._check_successor_not_held(message, first)
        if self._is_held(first):
            raise self.violated("I1", f"{token} is posted again while its living holder awaits the response")
        # A claim ends by the database's clock: one that is set forward ends it early, for that one replay.
        doubted_at = first.claim_deadline if first.released_at is None else first.released_at
        if self._scheduler.now < doubted_at + self._policy.settle and "clock" not in self.happened:
            raise self.violated("I1", f"{token} is posted again while nothing is in doubt, or too soon after")

    def _is_held(self, message: Message) -> bool:
        """Return whether the call of ``message`` goes on, and nothing can keep its holder from renewing."""
        process = message.sender.process
        return (
            message.in_progress
            and process.alive
            and process not in self.hindered
            and not self.happened & HINDRANCES
        )

    def renewed(self, claim: Claim, seconds: float) -> None:
        """A claim has a new deadline: only ever one whose post is in progress (I6)."""
        self.events["renewal"] += 1
        message = self._messages.get(claim.id)
        if message is None or not message.in_progress:
            raise self.violated("I6", f"claim {claim.version} is renewed, and no post of it is in progress")
        message.claim_deadline = self._scheduler.now + seconds

    def released(self, claim: Claim) -> None:
        """A claim was given up, whatever the verdict."""
        message = self._messages.get(claim.id)
        if message is None:
            return
        message.released_at = self._scheduler.now
        row = self._rows.rows[claim.grant_id]
        token = message.refresh_token.reveal()
        posts = sum(post.counts for post in self._posts[token] if post.claim_version <= claim.version)
        if row.token_version == claim.redeems and row.doubts < posts:
            raise self.violated("I1", f"{token} was posted {posts} times, and its row says {row.doubts}")

    def waits(self, message: Message) -> None:
        """A holder waits for the response; one that is overdue excuses errors of others."""
        if "suspend" in self.happened or self._scheduler.now >= message.claimed_at + self._timing.redeem:
            self.disturbed("overdue")

    def gives_up(self, message: Message, seconds: float) -> None:
        """A living holder ends its call: not before its time, for the response may be the only copy (I2)."""
        self.events["give-up"] += 1
        waited = self._scheduler.now - message.claimed_at
        # By its own clock, from before the claim was sent; a suspend has set that clock forward.
        if waited < seconds - self._timing.redeem / 2 - LONGEST_STEPS and "suspend" not in self.happened:
            raise self.violated("I2", f"a call is given up {waited:.3f} s after its claim")

    def _check_successor_not_held(self, message: Message, earlier: Message) -> None:
        process = message.sender.process
        if self.is_kept(earlier) and earlier.sender.process is process:
            token = message.refresh_token.reveal()
            raise self.violated("I1", f"{token} is posted again by {process.name}, which holds its successor")
        issued, looked_at = earlier.issued, self._loaded_at[message.sender]
        if issued is not None and self.is_rescued(issued.access_token, looked_at):
            token = message.refresh_token.reveal()
            raise self.violated("I1", f"{token} is posted again although its successor was put aside before")
